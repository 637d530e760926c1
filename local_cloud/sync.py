"""Mirrors a local folder into a bucket's folder, so that images get into the local S3."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from local_cloud.s3 import rclone


@dataclass(frozen=True)
class Mirrored:
    """How many files a mirroring copied and deleted."""

    copied: int
    deleted: int


def mirror(source: Path, uri: str, buckets: Path) -> Mirrored:
    """Make `s3://bucket/prefix/` hold exactly the files of *source*.

    *buckets* is the folder that the local S3 serves. ValueError for a missing or empty source (it
    would empty the prefix) and for a URI that is not one.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder: name the folder that holds the label folders")
    if not any(path.is_file() for path in source.rglob("*")):
        raise ValueError(f"{source} holds no file: mirroring it would delete everything at {uri}")
    target = _target(uri, buckets)
    command = [rclone(), "sync", str(source.absolute()), str(target), "--copy-links", "--config="]
    # The last line of the log carries the totals; nothing is printed on the way.
    reporting = ["--use-json-log", "--stats=1h", "--stats-log-level=NOTICE"]
    done = subprocess.run([*command, *reporting], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"rclone could not mirror {source} to {uri}: {done.stderr.strip()}")
    stats = json.loads(done.stderr.splitlines()[-1])["stats"]
    return Mirrored(copied=stats["transfers"], deleted=stats["deletes"])


def _target(uri: str, buckets: Path) -> Path:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    parts = PurePosixPath(prefix).parts
    # A prefix that begins with a slash would be taken for a folder of this machine.
    if not uri.startswith("s3://") or not bucket or {"..", "/", "//"} & {bucket, *parts}:
        raise ValueError(f"{uri!r} is not an s3://bucket/prefix/ URI")
    if not parts:
        raise ValueError(f"{uri!r} names no prefix: mirroring would delete the rest of the bucket")
    target = buckets.joinpath(bucket, *parts)
    target.mkdir(parents=True, exist_ok=True)
    return target
