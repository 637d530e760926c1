"""Our featurize step in one Spark session: workers and network stay from one run to the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import featurize as step
from benchmarks.jobs import LAKE, REGION, Job, contend
from benchmarks.spark import OUR_JVM, session
from fruits_jobs.arguments import featurize_parser
from fruits_jobs.sessions import configuration


def words(job: Job, attempt: str) -> list[str]:
    """Return the step's command line, as the DAG gives it."""
    options = {
        "manifest": job.manifest,
        "features": f"{job.output}/features/{attempt}/",
        "quarantine": f"{job.output}/quarantine/{attempt}/",
        "work": f"{LAKE}/attempts/{attempt}/",
        "weights": job.weights_uri,
        "network": job.network_uri,
        "engine": job.option("engine", "litert"),
        "feature-model": job.feature_model,
        "batch": "benchmark",
        "region": REGION,
    }
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


class Silent(nullcontext[None]):
    """Stands in for the step's Progress, and tells nothing."""

    def __init__(self, *_: object) -> None:
        super().__init__()


@contextmanager
def ours(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the step as a function."""
    if not job.option("progress", True):
        step.Progress = Silent  # type: ignore[misc, assignment]
    os.environ |= OUR_JVM
    with session(job, configuration("local")) as spark:

        def run(attempt: str) -> int:
            arguments = featurize_parser().parse_args(words(job, attempt))
            return int(step.featurize(arguments, spark)["images"])

        yield run


if __name__ == "__main__":
    contend(ours)
