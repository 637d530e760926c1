"""Reading alone with Spark's binaryFile. From the disk: Spark's S3 client is not in its wheel.

On S3 it would also ask for each object's status before it reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.jobs import Job, contend
from benchmarks.spark import session


@contextmanager
def read_binary(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the reading as a function."""
    with session(job) as spark:

        def run(_: str) -> int:
            files = (
                spark.read.format("binaryFile")
                .option("recursiveFileLookup", "true")
                .load(job.prefix)
            )
            found = files.selectExpr("count(*)", "sum(length(content))").first()
            assert found
            return int(found[0])

        yield run


if __name__ == "__main__":
    contend(read_binary)
