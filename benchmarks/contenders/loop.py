"""The same reading, decoding and inference without Spark: a process per core, nothing written."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.jobs import REGION, Job, contend
from fruits_jobs.arguments import featurize_parser
from fruits_jobs.engines import make_engine
from fruits_jobs.featurizing import FeaturizeTask, load_images
from fruits_jobs.manifests import read_rows
from fruits_jobs.ranges import RowRange

_engine: Any = None


def load(network: str) -> None:
    """Make this process' engine."""
    global _engine  # noqa: PLW0603  (a worker process has one)
    os.environ["OMP_NUM_THREADS"] = os.environ["TOKIO_WORKER_THREADS"] = "1"
    _engine = make_engine("MobileNetV2", Path(network).read_bytes())


def featurize_rows(manifest: str, start: int, stop: int) -> int:
    """Read, decode and infer the rows of a manifest; return how many there were."""
    defaults = {a.dest: a.default for a in featurize_parser()._actions}
    task = FeaturizeTask(
        manifest=manifest,
        region=REGION,
        backbone="MobileNetV2",
        network_id="",
        length=_engine.length,
        rows_per_file=1,
        batch_size=defaults["batch_size"],
        readers=defaults["readers"],
        max_pixels=defaults["max_pixels"],
    )
    outcomes = load_images(read_rows(manifest, REGION, RowRange(start, stop)), task)
    done = 0
    while batch := list(islice(outcomes, task.batch_size)):
        done += len(_engine.features([o.pixels for o in batch if o.pixels is not None]))
    return done


@contextmanager
def loop(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the loop as a function; each process takes one run of rows."""
    context = multiprocessing.get_context("spawn")
    edges = [job.images * part // job.cores for part in range(job.cores + 1)]
    shares = [(job.manifest, *edges[part : part + 2]) for part in range(job.cores)]
    with context.Pool(job.cores, load, (job.network,)) as pool:
        yield lambda _: sum(pool.starmap(featurize_rows, shares, chunksize=1))


if __name__ == "__main__":
    contend(loop)
