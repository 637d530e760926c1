"""The watchdog as its command, called again and again beside the runs: every PERIOD seconds."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

# Stands for the ten minutes of dags/fruits_cost_watchdog.py.
PERIOD = 15.0
PATIENCE = 120.0

# What the command sees of the time: the machine's clock, moved.
_MOVED = """
import runpy, sys, time, time_machine
with time_machine.travel(time.time() + float(sys.argv.pop(1)), tick=True):
    runpy.run_module("fruits.watchdog", run_name="__main__", alter_sys=True)
"""


@dataclass
class Watchdog:
    """Calls the command in *environment*; a context manager, or `look` for a single call."""

    environment: dict[str, str]

    def look(self, clock_ahead: timedelta = timedelta(0)) -> subprocess.CompletedProcess[str]:
        """Look once, on a machine whose clock is ahead (or behind) by so much."""
        process = self.start(clock_ahead)
        try:
            told, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, told)

    def start(self, clock_ahead: timedelta = timedelta(0)) -> subprocess.Popen[str]:
        """Start a look and return its process."""
        command = ["-m", "fruits.watchdog"]
        if clock_ahead:
            command = ["-c", _MOVED, str(clock_ahead.total_seconds())]
        return subprocess.Popen(
            [sys.executable, *command],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _keep_looking(self) -> None:
        while not self._over.wait(PERIOD):
            self.look()
