"""One local cloud per folder: a lock that a killed process cannot leave behind."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import IO

import psutil

_LOOKS = 5


class FolderInUseError(RuntimeError):
    """Another local cloud runs over *folder*, in process *pid*."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        self.folder = folder
        self.pid = pid
        super().__init__(
            f"A local cloud already runs over {folder} (process {pid or 'unknown'}). "
            f"Stop it (`make down`, or `python -m local_cloud down --folder {folder}`), or use "
            "another folder."
        )


class FolderLock:
    """An advisory lock on *folder*/cloud.lock; the kernel lets go of it when its process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock; FolderInUseError says who has it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = (self._folder / "cloud.lock").open("a+", encoding="utf-8")
        if not _lock(file):
            file.close()
            raise FolderInUseError(self._folder, holder(self._folder))
        file.truncate(0)
        json.dump({"pid": os.getpid(), "since": time.time(), "command": sys.argv}, file)
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let go of the lock."""
        if self._file:
            self._file.close()
            self._file = None


def _lock(file: IO[str]) -> bool:
    """Take the lock if it is free; `status` holds it for an instant, so look more than once."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def holder(folder: Path) -> int | None:
    """Return the pid of the process whose local cloud runs over *folder*, None when none does."""
    path = folder / "cloud.lock"
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _written_pid(file)
    return None


def _written_pid(file: IO[str]) -> int | None:
    try:
        pid = int(json.load(file)["pid"])
    except (ValueError, KeyError):
        return None  # its holder has taken it this instant
    return pid if psutil.pid_exists(pid) else None
