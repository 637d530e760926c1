"""The network alone on pixels in memory: what no pipeline around this engine can exceed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.jobs import Job, contend
from fruits_jobs.engines import OnnxEngine, make_engine
from fruits_jobs.network_export import to_litert
from fruits_jobs.networks import load_network, quiet_tensorflow
from fruits_jobs.scaling import SIDE

_infer: Any = None


def load(engine: str, weights: str, network: str) -> None:
    """Make this process' network.

    *engine* is litert or tensorflow (as ours), litert-whole, onnxruntime or keras-predict.
    """
    global _infer  # noqa: PLW0603  (a worker process has one)
    os.environ["OMP_NUM_THREADS"] = "1"
    if engine == "litert":
        _infer = make_engine("MobileNetV2", Path(network).read_bytes()).features
        return
    if engine == "onnxruntime":
        _infer = OnnxEngine(Path(network).with_suffix(".onnx").read_bytes()).features
        return
    quiet_tensorflow(threads=1)
    model = load_network("MobileNetV2", Path(weights))
    if engine == "litert-whole":
        _infer = make_engine("MobileNetV2", to_litert(model, "whole", whole=True)).features
        return
    if engine == "tensorflow":
        _infer = make_engine("MobileNetV2", model.get_weights()).features
    else:
        _infer = lambda pixels: model.predict(pixels, batch_size=len(pixels), verbose=0)  # noqa: E731


def infer(count: int, batch: int) -> int:
    """Run the network on *count* images of noise, *batch* at a time; return how many."""
    shape = (batch, SIDE, SIDE, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for start in range(0, count, batch):
        _infer(pixels[: count - start])
    return count


@contextmanager
def model_only(job: Job) -> Iterator[Callable[[str], int]]:
    """Give a function that runs the job's number of images on as many processes as cores."""
    context = multiprocessing.get_context("spawn")
    engine, batch = str(job.option("engine", "litert")), int(job.option("batch", 8))
    arguments = (engine, job.weights, job.network)
    share = (-(-job.images // job.cores), batch)
    with context.Pool(job.cores, load, arguments) as pool:
        yield lambda _: sum(pool.starmap(infer, [share] * job.cores, chunksize=1))


if __name__ == "__main__":
    contend(model_only)
