"""Daft: download and decode as expressions, a class UDF that holds the network, Parquet.

Two forms. *images*: Daft's own decoder and resizer, in Rust, feed the UDF. *bytes*: the UDF gets
the files and decodes them with Pillow. Parquet goes to the disk that the S3 serves: Daft does not
understand how rclone answers when an upload in parts begins.
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

LENGTH = 1280


@contextmanager
def daft_frame(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the pipeline as a function."""
    import daft

    form = str(job.option("form", "bytes"))
    access = _access()
    daft.set_planning_config(default_io_config=access)
    network = _network(job.cores, int(job.option("batch", 8)), pixels=form == "images")(job.network)

    def run(attempt: str) -> int:
        files = daft.from_glob_path(f"{job.prefix}**", io_config=access)
        data = files["path"].download(io_config=access)
        if form == "images":
            data = data.decode_image(mode="RGB").resize(SIDE, SIDE)
        features = files.select(files["path"], network.features(data).alias("features"))
        folder = f"{job.buckets}/{job.output.removeprefix('s3://')}/daft/{attempt}"
        features.write_parquet(folder)
        return int(daft.read_parquet(f"{folder}/*.parquet").count_rows())

    yield run


def _access() -> Any:
    from daft.io import IOConfig, S3Config

    return IOConfig(
        s3=S3Config(
            endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"],
            key_id=os.environ["AWS_ACCESS_KEY_ID"],
            access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
            use_ssl=False,
        )
    )


def _network(cores: int, batch: int, *, pixels: bool) -> Any:
    """Return the UDF's class; its features are given *pixels*, or else files."""
    import daft

    kind = daft.DataType.embedding(daft.DataType.float32(), LENGTH)

    @daft.cls(max_concurrency=cores, use_process=cores > 1)
    class Network:
        """The network; Daft calls it from several threads, whatever `use_process` asks for."""

        def __init__(self, path: str) -> None:
            self.infer = load(Path(path).read_bytes())

        @daft.method.batch(return_dtype=kind, batch_size=batch)
        def features(self, images: daft.Series) -> Any:
            """Return the features of a batch of images or of files."""
            values = images.to_pylist()
            arrays = values if pixels else [pixels_of(file) for file in values]
            return self.infer(np.stack(arrays))

    return Network


if __name__ == "__main__":
    contend(daft_frame)
