"""The nodes' Python packages: which lock an engine needs, and its wheels as a folder in the lake.

A wheelhouse is named by the SHA-256 of its lock, and the lock holds the hash of every wheel: what
is under a name never changes. `bootstrap/node/install_python_env.sh` installs from it alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import shutil
import subprocess
import sys
from pathlib import Path

from fruits.errors import FruitsError
from fruits.job_package import ROOT
from fruits.settings import Engine

log = logging.getLogger(__name__)

LOCKS = {
    Engine.LITERT: ROOT / "bootstrap" / "node" / "requirements.txt",
    Engine.TENSORFLOW: ROOT / "bootstrap" / "node" / "requirements-tensorflow.txt",
}
# EMR's nodes: Amazon Linux 2023 (glibc 2.34) on x86-64. pip does not know which names of a platform
# include which.
_GLIBC = (5, 12, 17, 24, 26, 27, 28, 31, 34)
PLATFORMS = (
    *("manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"),
    *(f"manylinux_2_{minor}_x86_64" for minor in _GLIBC),
)


class WheelhouseError(FruitsError):
    """The wheels of a lock cannot be had; field: lock."""

    lock: str


def lock_sha256(lock: Path) -> str:
    """Return the SHA-256 of the lock file: the wheelhouse's name."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def wheelhouse_uri(lake: str, engine: Engine) -> str:
    """Return where the wheels for *engine* are, without a slash at the end."""
    return f"{lake}/wheelhouses/{lock_sha256(LOCKS[engine])}"


def download_wheels(lock: Path, folder: Path) -> Path:
    """Fill *folder* with the wheels that *lock* names, for nodes, and the lock; return *folder*.

    Asks the package index that pip is configured for. Raises WheelhouseError with pip's last words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    command = [
        *(*_pip(lock), "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--require-hashes", "--only-binary", ":all:", "--python-version", "3.11"),
        *("--implementation", "cp", *platforms),
        *("--requirement", str(lock), "--dest", str(folder)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WheelhouseError(
            f"The wheels of {lock.name} cannot be downloaded: {done.stderr.strip()[-1500:]}",
            "They come from the package index that pip knows; nodes take x86_64 wheels alone.",
            lock=str(lock),
        )
    shutil.copy(lock, folder / "requirements.txt")
    return folder


def upload_wheels(folder: Path, uri: str, region: str) -> tuple[int, int]:
    """Upload what *uri* has not yet of the wheelhouse in *folder*; return (files, bytes) sent.

    The lock comes last: a wheelhouse without it is not one, so none is ever seen incomplete.
    """
    from fruits.objects import exists, upload

    files = sorted(folder.iterdir(), key=lambda file: (file.suffix != ".whl", file.name))
    missing = [file for file in files if not exists(f"{uri}/{file.name}", region)]
    for file in missing:
        upload(file, f"{uri}/{file.name}")
        log.info("Published %s/%s", uri, file.name)
    return len(missing), sum(file.stat().st_size for file in missing)


def _pip(lock: Path) -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    pinned = next(line for line in lock.read_text().splitlines() if line.startswith("pip=="))
    uv = Path(sys.executable).with_name("uv")
    run = f"{uv} tool run --quiet --python 3.11 --from {pinned.split()[0]} pip"
    return run.split()
