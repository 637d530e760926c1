"""Runs the jobs' exporters, each in a process of its own: nothing here imports the jobs.

TensorFlow, which they load, would cost each Airflow worker 500 MB for good.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fruits.errors import FruitsError

# They download some 100 MB at the most, and export in seconds.
LIMIT_SECONDS = 1800


def run_exporter(program: Path, *arguments: str, failure: type[FruitsError]) -> str:
    """Return what *program* prints; *failure* with its last line if it fails, or takes too long."""
    command = [sys.executable, str(program), *arguments]
    environment = os.environ | {"PYTHONPATH": str(program.parent)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise failure(
            f"{program.stem} was not done after {LIMIT_SECONDS} s and was ended.",
            "A download that hangs? Try again, or give the weights as a file (FRUITS_WEIGHTS).",
            transient=True,
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise failure(lines[-1].removeprefix(f"{program.stem} failed: "))
    return done.stdout
