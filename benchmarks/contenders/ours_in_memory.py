"""Our featurize step with the images' bytes already in memory: what it is without reading."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.contenders.ours import ours
from benchmarks.jobs import Job, contend

PATCH = Path(__file__).resolve().parents[1] / "in_memory"


@contextmanager
def ours_in_memory(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the step as a function."""
    with tempfile.NamedTemporaryFile(prefix="fruits-pack-") as pack:
        index, start = {}, 0
        manifest = Path(job.buckets) / job.manifest.removeprefix("s3://")
        for uri in pq.read_table(manifest, columns=["image_uri"])["image_uri"].to_pylist():
            index[uri] = start
            start += pack.write((Path(job.buckets) / uri.removeprefix("s3://")).read_bytes())
        pack.flush()
        Path(f"{pack.name}.json").write_text(json.dumps(index))
        os.environ["BENCH_PACK"] = pack.name
        os.environ["PYTHONPATH"] = os.pathsep.join([str(PATCH), os.environ["PYTHONPATH"]])
        try:
            with ours(job) as run:
                yield run
        finally:
            Path(f"{pack.name}.json").unlink()


if __name__ == "__main__":
    contend(ours_in_memory)
