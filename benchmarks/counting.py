"""How many requests reading takes: the local S3's own log, in a run that is not timed."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.environments import storage
from benchmarks.workloads import copies, put

REQUEST = re.compile(r"serve s3: (GET|HEAD|PUT|LIST|DELETE)[A-Z ]*(?:OBJECT|BUCKET)")


def counted(bench: Bench, count: int) -> dict[str, dict[str, int]]:
    """Return the requests, by kind, of listing *count* small images and of reading them."""
    environment, found = dict(os.environ), {}
    try:
        for name, program in (("listing, ours", "list_ours"), ("reading, ours", "read_ours")):
            folder = bench.folder / f"counted-{program}"
            folder.mkdir()
            with storage(folder, log_level="DEBUG") as s3:
                work = put(s3.folder, "counted", copies(bench.photographs, count))
                log = folder / "s3.rclone.log"
                start = log.stat().st_size
                bench.on(s3).figure(name, program, work, repetitions=1, warm_ups=0)
                found[f"{name}, {count:,} images"] = _requests(log, start)
    finally:
        os.environ.clear()
        os.environ |= environment
    return found


def _requests(log: Path, start: int) -> dict[str, int]:
    text = log.read_bytes()[start:].decode(errors="replace")
    return dict(Counter(match[1] for match in REQUEST.finditer(text)))
