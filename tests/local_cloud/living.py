"""Which processes live, as the system tells it: the code under test has no say."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil


def with_marker(marker: tuple[str, str]) -> list[psutil.Process]:
    """Return the processes whose environment holds *marker* (name, value)."""
    name, value = marker
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(name) == value:
                found.append(process)
    return found


def lives(process: psutil.Process) -> bool:
    """Say whether a process does anything: a zombie only waits for its parent to look."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session_of(process: psutil.Process) -> int | None:
    """Return the session that a process belongs to, None when it is gone."""
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None
