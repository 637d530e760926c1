"""Ray Data: read from S3, a pool of actors that hold the network, Parquet back to S3.

Two forms. *images*, as its guide for batch inference shows: `read_images` decodes in tasks of its
own, actors infer. *bytes*: `read_binary_files`, and the actors decode and infer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.network import SIDE, load, pixels_of
from benchmarks.jobs import REGION, Job, contend


class Network:
    """The network in one actor."""

    def __init__(self, model: bytes) -> None:
        self.infer = load(model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return paths and features of a batch of images or of files."""
        if "image" in batch:
            pixels = batch["image"]
        else:
            pixels = np.stack([pixels_of(file) for file in batch["bytes"]])
        return {"path": batch["path"], "features": self.infer(pixels)}


@contextmanager
def ray_data(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the pipeline as a function."""
    import ray
    from pyarrow import fs, parquet

    form, batch = job.option("form", "bytes"), int(job.option("batch", 8))
    ray.init(num_cpus=job.cores, include_dashboard=False, logging_level="warning")
    ray.data.DataContext.get_current().enable_progress_bars = False
    s3 = fs.S3FileSystem(region=REGION, endpoint_override=os.environ["AWS_ENDPOINT_URL_S3"])
    model = Path(job.network).read_bytes()
    prefix, output = job.prefix.removeprefix("s3://"), job.output.removeprefix("s3://")
    compute = ray.data.ActorPoolStrategy(size=job.cores)

    def run(attempt: str) -> int:
        more: dict[str, Any] = {"filesystem": s3, "include_paths": True}
        if form == "images":
            images = ray.data.read_images(prefix, size=(SIDE, SIDE), mode="RGB", **more)
        else:
            images = ray.data.read_binary_files(prefix, **more)
        features = images.map_batches(
            Network,
            fn_constructor_args=(model,),
            batch_size=batch,
            compute=compute,
            # Actors that asked for whole cores would leave none for reading and writing: tasks
            # that ask for one, and Ray would wait for ever.
            num_cpus=0.5,
        )
        folder = f"{output}/ray/{attempt}"
        # rclone refuses the markers that Ray would make folders with.
        features.write_parquet(folder, filesystem=s3, try_create_dir=False)
        return int(parquet.ParquetDataset(folder, filesystem=s3).read(["path"]).num_rows)

    yield run
    ray.shutdown()


if __name__ == "__main__":
    contend(ray_data, counted=False)  # its raylet kills workers, and nobody hears what they used
