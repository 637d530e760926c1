"""How long the page in Airflow takes over a lake of many batches: `make bench-page`.

What is timed is everything that the API server does for a request: reading `runs`, the ledger,
the model, the last sensing, findings, the watchdog's last look and EMR, and rendering. The lake
lies behind a real S3 (rclone) and a real EMR endpoint on this machine; the page's memory of a few
seconds is off. Timed are requests of which the server remembers nothing, and requests after which
nothing has changed. On AWS a round trip takes longer: how many there are is printed.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from fruits.objects import client
from fruits.page.parts import Reading
from fruits.page.readings import Reader
from fruits.rendering import render_template
from fruits.settings import load_settings
from tests.fruits.emr_support import cloud_in_environment
from tests.page.scenes import (
    QUALITY,
    add_entry,
    add_look,
    add_model,
    add_runs,
    add_sensing,
    history,
)

LIMIT = 0.2  # seconds: the command fails if the median after no change is above it


def fill(batches: int) -> None:
    """Let so many batches have been, one a day, and a month's worth of them be in the ledger."""
    from fruits.lake import ensure_tables, open_catalog
    from fruits.runs import record_run

    ensure_tables(open_catalog())
    *rows, last = history(batches)
    add_runs(*rows)
    # As every batch does: reads the whole table and writes it anew.
    started = time.perf_counter()
    record_run(last)
    print(f"reporting batch {batches:,} takes {time.perf_counter() - started:.2f} s")
    add_model(last["model_version"], quality=QUALITY)
    for index in range(31):
        add_entry(f"bench-{index:02}", 24 * index, 0.27 if index else None)
    add_sensing(last["batch"], unchanged=90_483)
    add_look()


def once(reader: Reader) -> tuple[float, float]:
    """Return how long reading and rendering took (s)."""
    started = time.perf_counter()
    data = reader.read()
    read = time.perf_counter()
    trouble = [name for name, part in vars(data).items() if getattr(part, "trouble", "")]
    if trouble:
        raise RuntimeError(f"The page could not read {', '.join(trouble)}")
    shown = {"data": data, "settings": reader.settings, "dag_id": "fruits_ingestion"}
    render_template("page.html.jinja", shown | {"off": Reading({}), "nonce": "bench"})
    return read - started, time.perf_counter() - read


def round_trips(reader: Reader) -> str:
    """Return how many calls to S3 one page makes, as a sentence."""
    calls: Counter[str] = Counter()

    def note(model: Any, **_: Any) -> None:
        calls[model.name] += 1

    client().meta.events.register("before-call.s3", note)
    once(reader)
    client().meta.events.unregister("before-call.s3", note)
    return ", ".join(f"{count} {name}" for name, count in sorted(calls.items()))


def told(times: list[tuple[float, float]]) -> str:
    """Return the times as a sentence."""
    whole = sorted(read + rendered for read, rendered in times)
    rendering = median(rendered for _, rendered in times)
    return (
        f"median {median(whole) * 1000:.0f} ms, slowest {whole[-1] * 1000:.0f} ms of {len(whole)} "
        f"(rendering {rendering * 1000:.0f} ms)"
    )


def main() -> int:
    """Print the times; 1 if the median is above the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_page", description=__doc__)
    parser.add_argument("--batches", type=int, default=3000)
    parser.add_argument("--times", type=int, default=30)
    options = parser.parse_args()
    with TemporaryDirectory() as folder, cloud_in_environment(Path(folder)):
        fill(options.batches)
        settings = load_settings()
        first = sum(once(Reader(settings)))
        fresh = [once(Reader(settings, kept_seconds=0)) for _ in range(options.times)]
        warm = Reader(settings, kept_seconds=0)
        once(warm)
        again = [once(warm) for _ in range(options.times)]
        calls = round_trips(Reader(settings)), round_trips(warm)
    print(f"{options.batches:,} batches, Python {platform.python_version()}, {platform.machine()}")
    print(f"the process's first request: {first * 1000:.0f} ms")
    print(f"nothing remembered: {told(fresh)}; S3: {calls[0]}, besides PyIceberg's")
    print(f"nothing changed:    {told(again)}; S3: {calls[1]}, besides PyIceberg's")
    return 0 if median(read + rendered for read, rendered in again) < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
