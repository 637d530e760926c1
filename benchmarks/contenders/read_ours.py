"""Reading alone, as our workers do it: the step's fetcher, ahead and within a limit of bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.jobs import REGION, Job, contend
from benchmarks.spark import session
from fruits_jobs.arguments import featurize_parser
from fruits_jobs.featurizing import READ_AHEAD_BYTES
from fruits_jobs.fetching import Fetcher
from fruits_jobs.manifests import image_sizes, read_rows
from fruits_jobs.ranges import RowRange, task_ranges
from fruits_jobs.read_ahead import read_ahead


def read(manifest: str, rows: RowRange) -> int:
    """Read the images of those rows of a manifest; return their bytes."""
    images = read_rows(manifest, REGION, rows)
    columns = (images.column(name).to_pylist() for name in ("image_uri", "etag", "size_bytes"))
    items = zip(*columns, strict=True)
    fetcher, readers = Fetcher(REGION), featurize_parser().get_default("readers")
    ahead = read_ahead(
        lambda item: fetcher.fetch(*item), items, lambda item: item[2], readers, READ_AHEAD_BYTES
    )
    return sum(len(data) for data in ahead)


@contextmanager
def read_ours(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the reading as a function."""
    os.environ["OMP_NUM_THREADS"] = os.environ["TOKIO_WORKER_THREADS"] = "1"
    with session(job) as spark:

        def run(_: str) -> int:
            ranges = task_ranges(image_sizes(job.manifest, REGION), job.cores)
            tasks = spark.sparkContext.parallelize(ranges, len(ranges))
            manifest = job.manifest
            assert tasks.map(lambda rows: read(manifest, rows)).sum() > 0
            return job.images

        yield run


if __name__ == "__main__":
    contend(read_ours)
