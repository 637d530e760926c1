"""This package as one archive in the lake: what the stack's machine for Airflow runs.

Its name is the SHA-256 of its content, and `code/newest.json` names the last that was published.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from fruits.errors import FruitsError, MissingObjectError
from fruits.job_package import ROOT
from fruits.objects import exists, read_json, write_bytes, write_json

# What the container image is built from, and what runs it.
PARTS = (
    *("Dockerfile", ".dockerignore", ".env.example", "docker-compose.yaml", "docker"),
    *("requirements.txt", "requirements-local.txt"),
    *("bootstrap", "dags", "local_cloud", "plugins", "spark_jobs"),
)
NEVER = ("__pycache__", "aws.env")


class NoCodeError(FruitsError):
    """Nothing was published into the lake; field: lake."""

    lake: str


def publish_code(lake: str) -> str:
    """Upload the archive, if *lake* does not have it; return its key."""
    content = code_archive()
    key = f"code/{hashlib.sha256(content).hexdigest()}.tar.gz"
    if not exists(f"{lake}/{key}"):
        write_bytes(f"{lake}/{key}", content)
    write_json(f"{lake}/code/newest.json", {"key": key})
    return key


def newest_code(lake: str) -> str:
    """Return the key of what was published last; NoCodeError if nothing was."""
    try:
        return str(read_json(f"{lake}/code/newest.json")["key"])
    except MissingObjectError as error:
        raise NoCodeError(
            f"No code was published into {lake} yet.", "make aws-publish", lake=lake
        ) from error


def code_archive() -> bytes:
    """Return the gzipped tar of the package; the same sources give the same bytes.

    Entries are sorted and carry neither time nor owner.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in sorted(_files()):
            _add(archive, str(file.relative_to(ROOT)), file)
    return gzip.compress(buffer.getvalue(), mtime=0)


def _files() -> Iterator[Path]:
    for part in PARTS:
        path = ROOT / part
        found = [path] if path.is_file() else path.rglob("*")
        yield from (one for one in found if one.is_file() and not {*one.parts} & {*NEVER})


def _add(archive: tarfile.TarFile, name: str, file: Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = file.stat().st_size
    entry.mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
    with file.open("rb") as content:
        archive.addfile(entry, content)
