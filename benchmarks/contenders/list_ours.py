"""Listing alone, as sensing does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from benchmarks.jobs import Job, contend
from fruits.listing import list_objects


class Count:
    """A sink that only counts."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def add(self, span: str, batch: pa.RecordBatch) -> None:
        """Count the objects of *span*."""
        self.rows[span] = self.rows.get(span, 0) + batch.num_rows

    def forget(self, span: str) -> None:
        """Begin *span* again."""
        self.rows.pop(span, None)


@contextmanager
def list_ours(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the listing as a function."""

    def run(_: str) -> int:
        sink = Count()
        bucket, _, prefix = job.prefix.removeprefix("s3://").partition("/")
        list_objects(bucket, prefix, sink)
        return sum(sink.rows.values())

    yield run


if __name__ == "__main__":
    contend(list_ours)
