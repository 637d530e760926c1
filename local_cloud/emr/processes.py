"""Starting programs and ending everything that came of them, however it hid.

A process is found by its parent, by its session, and by a variable in the environment that it
inherited: a daemon that called setsid and lost its parent still carries the variable.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from local_cloud.emr.model import ProcessId

_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied)
_PATIENCE = 10.0  # seconds for the kernel to take killed processes away


def start(
    command: list[str], environment: dict[str, str], folder: Path, output: Path
) -> subprocess.Popen[bytes]:
    """Start *command* in *folder*, in its own session; its output goes to *output*/stdout, stderr.

    Raises OSError when the program cannot be started.
    """
    with (output / "stdout").open("ab") as stdout, (output / "stderr").open("ab") as stderr:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


def identify(pid: int) -> ProcessId:
    """Return the identity of a process that runs now."""
    with suppress(psutil.Error):
        return ProcessId(pid, psutil.Process(pid).create_time())
    return ProcessId(pid, 0.0)  # it ended already: no process will ever match


def end_tree(marker: tuple[str, str], roots: Iterable[ProcessId] = (), grace: float = 0.0) -> None:
    """End every process with *marker* in its environment, and *roots* with all their descendants.

    With *grace*, SIGTERM comes first and that many seconds pass before SIGKILL. Returns when none
    is left; RuntimeError names those that would not go.
    """
    victims = _Victims(marker, roots)
    if grace:
        victims.signal(signal.SIGTERM)
        _wait(victims, grace)
    deadline = time.monotonic() + _PATIENCE
    while victims.alive():
        victims.signal(signal.SIGKILL)
        _wait(victims, 0.5)
        if time.monotonic() > deadline and (left := victims.alive()):
            raise RuntimeError(f"Processes would not end: {[one.pid for one in left]}")


class _Victims:
    """The processes to end; each look adds those that were born, or found, since."""

    def __init__(self, marker: tuple[str, str], roots: Iterable[ProcessId]) -> None:
        self._marker = marker
        self._known = {process for root in roots if (process := _find(root))}
        # Each root leads a session; its number is not given to others while it has members.
        self._sessions = {process.pid for process in self._known}

    def alive(self) -> list[psutil.Process]:
        self._known |= set(self._look())
        self._known = {process for process in self._known if _runs(process)}
        return list(self._known)

    def signal(self, number: signal.Signals) -> None:
        for process in self.alive():
            with suppress(psutil.Error):
                process.send_signal(number)

    def _look(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            if _carries(process, self._marker) or session_of(process) in self._sessions:
                yield process
        yield from _descendants(self._known)


def _wait(victims: _Victims, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    # psutil.wait_procs would reap our children and take their exit codes from subprocess.
    while victims.alive() and time.monotonic() < deadline:
        time.sleep(0.02)


def _descendants(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in list(processes):
        with suppress(*_GONE):
            yield from process.children(recursive=True)


def _find(identity: ProcessId) -> psutil.Process | None:
    """Return this very process if it still runs: a reused pid has another start time."""
    with suppress(*_GONE):
        process = psutil.Process(identity.pid)
        # One clock tick is 10 ms, and psutil derives the time from the boot time.
        if abs(process.create_time() - identity.started_at) < 0.05 and _runs(process):
            return process
    return None


def _carries(process: psutil.Process, marker: tuple[str, str]) -> bool:
    name, value = marker
    try:
        return process.pid != os.getpid() and process.environ().get(name) == value
    except (*_GONE, OSError):
        return False


def session_of(process: psutil.Process) -> int | None:
    """Return the session that a process belongs to, None when it is gone."""
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _runs(process: psutil.Process) -> bool:
    try:
        if not process.is_running():
            return False
        # Of a killed program the first thread may be gone before the last, and only that one
        # closes its sockets: until then it still has its port.
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except _GONE:
        return False
