"""Our featurize step as EMR starts it: spark-submit, from nothing to its exit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders.ours import words
from benchmarks.jobs import Job, contend
from benchmarks.spark import OUR_JVM, environment, settings

ENTRY_POINT = Path(__file__).resolve().parents[2] / "spark_jobs" / "featurize.py"


def submit(job: Job, attempt: str) -> int:
    """Run the step in a Spark of its own; CalledProcessError if it fails."""
    command = [str(Path(sys.executable).with_name("spark-submit"))]
    for key, value in settings(job).items():
        command += ["--conf", f"{key}={value}"]
    subprocess.run(
        [*command, str(ENTRY_POINT), *words(job, attempt)],
        check=True,
        env=os.environ | environment() | OUR_JVM,
    )
    return job.images


@contextmanager
def cold(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the step as a function."""
    yield lambda attempt: submit(job, attempt)


if __name__ == "__main__":
    contend(cold, counted=False)  # Spark ends with its Python workers not waited for
