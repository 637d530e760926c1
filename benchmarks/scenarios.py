"""What `make bench` compares: each scenario runs some contenders and returns their figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.jobs import LAKE, Job
from benchmarks.running import Contestant, Figure, run
from benchmarks.workloads import Workload, copies, enlarged, put, put_network
from fruits.weights import Weights, export_network, resolve_weights
from local_cloud.s3 import ObjectStorage

OURS = Path(sys.executable)
BACKBONE = "MobileNetV2"
CACHE = Path("var/cache")


@dataclass(frozen=True)
class Size:
    """How much is run: images of a step, small objects, large photos, thumbnails, repetitions."""

    images: int
    small: int
    photos: int
    thumbnails: int
    repetitions: int

    def repeated(self, times: int) -> Size:
        """Return the same with other repetitions."""
        return replace(self, repetitions=times)


class Bench:
    """One run of the benchmark: its S3, its images, its network."""

    def __init__(
        self, s3: ObjectStorage, folder: Path, size: Size, images: Path, weights: str, peers: Path
    ) -> None:
        self.s3, self.folder, self.size, self.photographs = s3, folder, size, images
        self._wanted, self._peers = weights, peers
        self._workloads: dict[str, Workload] = {}

    @cached_property
    def weights(self) -> Weights:
        """The network's weights."""
        return resolve_weights(BACKBONE, self._wanted, CACHE)

    @cached_property
    def network(self) -> Path:
        """The exported network: a file."""
        path = CACHE / "networks" / f"benchmark-{self.weights.sha256[:12]}.onnx"
        if not path.exists():
            export_network(self.weights, BACKBONE, path)
        return path.resolve()

    def small(self, count: int) -> Workload:
        """Return *count* images as they are: around and around in the folder of images."""
        return self._made(f"small-{count}", lambda: copies(self.photographs, count))

    def large(self, count: int, width: int, height: int) -> Workload:
        """Return *count* photographs of width x height."""
        make = lambda: enlarged(self.photographs, count, width, height)  # noqa: E731
        return self._made(f"large-{width}-{count}", make)

    def job(self, workload: Workload, **changes: Any) -> Job:
        """Return the job on a workload that every contender gets."""
        weights_uri, network_uri = put_network(
            self.s3.folder, Path(self.weights.path), self.network
        )
        process = self.s3._process  # noqa: SLF001  (its CPU is reported apart)
        assert process
        job = Job(
            prefix=workload.prefix,
            manifest=workload.manifest,
            images=workload.images,
            network=str(self.network),
            weights=self.weights.path,
            network_uri=network_uri,
            weights_uri=weights_uri,
            feature_model=self.weights.feature_model,
            output=f"{LAKE}/benchmark",
            buckets=str(self.s3.folder),
            server=process.pid,
            repetitions=self.size.repetitions,
        )
        return replace(job, **changes)

    def figure(self, name: str, program: str, workload: Workload, **changes: Any) -> Figure:
        """Run one of our own programs, or one on our own environment."""
        job = self.job(workload, **changes)
        return run(Contestant(name, program, OURS), job, self.folder / "jobs")

    def peer(self, name: str, program: str, workload: Workload, **changes: Any) -> Figure:
        """Run a program of the peers' environment."""
        job = self.job(workload, **changes)
        return run(Contestant(name, program, self._peers), job, self.folder / "jobs")

    def _made(self, name: str, files: Callable[[], Any]) -> Workload:
        if name not in self._workloads:
            self._workloads[name] = put(self.s3.folder, name, files())
        return self._workloads[name]


def step(bench: Bench) -> dict[str, Any]:
    """Ours, its bounds and its peers on the same small images."""
    work = bench.small(bench.size.images)
    rows = [
        bench.figure("model only (ONNX Runtime)", "model_only", work),
        bench.figure("the same loop without Spark", "loop", work),
        bench.figure("ours, step, steady state", "ours", work),
        bench.figure("ours, step, cold", "cold", work, warm_ups=0),
        bench.figure("ours, S3 to committed tables, cold", "end_to_end", work, warm_ups=0),
        *_peers(bench, work),
        # Once more: had the machine changed meanwhile, this would tell.
        bench.figure("ours, step, steady state, again", "ours", work),
    ]
    return _table(rows)


def _peers(bench: Bench, work: Workload, **changes: Any) -> list[Figure]:
    forms = [(form, {"options": {"form": form}} | changes) for form in ("images", "bytes")]
    tensors = [(form, {"options": {"form": form}} | changes) for form in ("tensor", "bytes")]
    return [
        bench.figure("notebook-style, Keras predict", "notebook", work, **changes),
        *(
            bench.figure(f"predict_batch_udf, ONNX Runtime, {form}", "predict_batch", work, **more)
            for form, more in tensors
        ),
        *(bench.peer(f"Ray Data, {form}", "ray_data", work, **more) for form, more in forms),
        *(bench.peer(f"Daft, {form}", "daft_frame", work, **more) for form, more in forms),
    ]


def engines(bench: Bench) -> dict[str, Any]:
    """Each engine alone on pixels in memory, at several batch sizes."""
    work = bench.small(bench.size.images)
    wanted = [
        *(("onnxruntime", batch) for batch in (1, 4, 8, 16, 32)),
        *(("tensorflow", batch) for batch in (8, 32)),
        *(("keras-predict", batch) for batch in (1, 64)),
    ]
    return _table(
        [
            bench.figure(
                f"{engine}, batch {batch}",
                "model_only",
                work,
                options={"engine": engine, "batch": batch},
            )
            for engine, batch in wanted
        ]
    )


def large(bench: Bench) -> dict[str, Any]:
    """Photographs of 12 megapixels."""
    work = bench.large(bench.size.photos, 4000, 3000)
    return _table(
        [
            bench.figure("the same loop without Spark", "loop", work),
            bench.figure("ours, step, steady state", "ours", work),
            *_peers(bench, work),
        ]
    )


def cores(bench: Bench) -> dict[str, Any]:
    """One core, and two."""
    work = bench.small(bench.size.images)
    return _table(
        [
            bench.figure(f"ours, step, {count} of the cores", "ours", work, cores=count)
            for count in (1, 2)
        ]
    )


def reading(bench: Bench) -> dict[str, Any]:
    """Reading alone, and what it adds to the step: small objects from S3 and from memory."""
    work = bench.small(bench.size.small)
    rows = [
        bench.figure("reading only, ours", "read_ours", work),
        bench.figure("reading only, binaryFile (from the disk)", "read_binary", work),
        bench.figure("step, bytes already in memory", "ours_in_memory", work),
        bench.figure("step, bytes from S3", "ours", work),
    ]
    return _table(rows) | {"requests": requests(bench)}


def memory(bench: Bench) -> dict[str, Any]:
    """The largest Python worker: photographs of 24 megapixels, and very many thumbnails."""
    photos = bench.large(bench.size.photos, 6000, 4000)
    thumbnails = bench.small(bench.size.thumbnails)
    once = {"repetitions": 1, "warm_ups": 0}
    return _table(
        [
            bench.figure("ours, 24 megapixels", "ours", photos, **once),
            bench.figure(f"ours, {thumbnails.images:,} thumbnails", "ours", thumbnails, **once),
        ]
    )


def progress(bench: Bench) -> dict[str, Any]:
    """What telling the progress costs: the step with it, and without."""
    work = bench.small(bench.size.images)
    silent = {"progress": False}
    return _table(
        [
            bench.figure("ours, with progress", "ours", work),
            bench.figure("ours, silent", "ours", work, options=silent),
        ]
    )


def requests(bench: Bench) -> dict[str, Any]:
    """Return how many requests reading takes, by kind: counted apart, since counting takes time."""
    from benchmarks.counting import counted

    return counted(bench)


def _table(rows: list[Figure]) -> dict[str, Any]:
    return {"figures": [row.content() for row in rows]}


SCENARIOS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "step": step,
    "engines": engines,
    "reading": reading,
    "large": large,
    "cores": cores,
    "memory": memory,
    "progress": progress,
}
