"""What `make bench` compares: each scenario runs some contenders and returns their figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.counting import counted
from benchmarks.jobs import LAKE, Job
from benchmarks.running import ContenderFailed, Contestant, run, say
from benchmarks.workloads import Workload, bomb, copies, enlarged, put, put_network
from fruits.weights import Weights, export_network, resolve_weights
from local_cloud.s3 import ObjectStorage

OURS = Path(sys.executable)
BACKBONE = "MobileNetV2"
CACHE = Path("var/cache")
# Nothing is sent to anybody, and a cluster of one machine needs no passwords.
PEERS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "DO_NOT_TRACK": "true",
    "DAFT_PROGRESS_BAR": "0",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is run: images of a step, small objects, large photos, thumbnails, repetitions.

    *thorough* runs both forms of each peer, ours twice, and counts requests.
    """

    images: int
    small: int
    photos: int
    thumbnails: int
    repetitions: int
    thorough: bool = True

    def repeated(self, times: int) -> Size:
        """Return the same with other repetitions."""
        return replace(self, repetitions=times)


class Bench:
    """One run of the benchmark: its S3, its images, its network."""

    def __init__(
        self,
        s3: ObjectStorage,
        folder: Path,
        size: Size,
        *,
        images: Path,
        weights: str,
        peers: Path,
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
            export_network(self.weights, path)
        return path.resolve()

    def small(self, count: int) -> Workload:
        """Return *count* images as they are: around and around in the folder of images."""
        return self._made(f"small-{count}", lambda: copies(self.photographs, count))

    def large(self, count: int, width: int, height: int) -> Workload:
        """Return *count* photographs of width x height."""
        make = lambda: enlarged(self.photographs, count, width, height)  # noqa: E731
        return self._made(f"large-{width}-{count}", make)

    def bombs(self) -> Workload:
        """Return eight PNGs of 300 megapixels each, of a few hundred kilobytes."""
        return self._made("bombs", lambda: ((f"b/{i}.png", bomb(300)) for i in range(8)))

    def job(self, workload: Workload, **changes: Any) -> Job:
        """Return the job on a workload that every contender gets."""
        weights_uri, network_uri = put_network(
            self.s3.folder, Path(self.weights.path), self.network
        )
        process = self.s3._process
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

    def figure(self, name: str, program: str, workload: Workload, **changes: Any) -> Row:
        """Run one of our own programs, or one on our own environment."""
        return self._run(Contestant(name, program, OURS), workload, changes)

    def peer(self, name: str, program: str, workload: Workload, **changes: Any) -> Row:
        """Run a program of the peers' environment."""
        return self._run(Contestant(name, program, self._peers, PEERS), workload, changes)

    def on(self, s3: ObjectStorage) -> Bench:
        """Return the same with another S3."""
        other = copy(self)
        other.s3, other._workloads = s3, {}
        return other

    def _run(self, contestant: Contestant, workload: Workload, changes: dict[str, Any]) -> Row:
        try:
            job = self.job(workload, **changes)
            return run(contestant, job, self.folder / "jobs").content()
        except ContenderFailed as error:
            say(str(error))
            return {"name": contestant.name, "failed": str(error)}

    def _made(self, name: str, files: Callable[[], Any]) -> Workload:
        if name not in self._workloads:
            self._workloads[name] = put(self.s3.folder, name, files())
        return self._workloads[name]


def step(bench: Bench) -> dict[str, Any]:
    """Compare ours, its bounds and its peers on the same small images."""
    work = bench.small(bench.size.images)
    rows = [
        bench.figure("model only (ONNX Runtime)", "model_only", work),
        bench.figure("the same loop without Spark", "loop", work),
        bench.figure("ours, step, steady state", "ours", work),
        bench.figure("ours, step, cold", "cold", work, warm_ups=0),
        bench.figure("ours, S3 to committed tables, cold", "end_to_end", work, warm_ups=0),
        *_peers(bench, work),
    ]
    if bench.size.thorough:  # had the machine changed meanwhile, this would tell
        rows.append(bench.figure("ours, step, steady state, again", "ours", work))
    return _table(rows)


def _peers(bench: Bench, work: Workload, **changes: Any) -> list[Row]:
    thorough = bench.size.thorough

    def forms(*names: str) -> list[tuple[str, dict[str, Any]]]:
        chosen = names if thorough else names[-1:]
        return [(form, {"options": {"form": form}} | changes) for form in chosen]

    return [
        bench.figure("notebook-style, Keras predict", "notebook", work, **changes),
        *(
            bench.figure(f"predict_batch_udf, ONNX Runtime, {form}", "predict_batch", work, **more)
            for form, more in forms("tensor", "bytes")
        ),
        *(
            bench.peer(f"Ray Data, {form}", "ray_data", work, **more)
            for form, more in forms("images", "bytes")
        ),
        *(
            bench.peer(f"Daft, {form}", "daft_frame", work, **more)
            for form, more in forms("images", "bytes")
        ),
    ]


def engines(bench: Bench) -> dict[str, Any]:
    """Run each engine alone on pixels in memory, at several batch sizes."""
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
    """Compare ours and its peers on photographs of 12 megapixels."""
    work = bench.large(bench.size.photos, 4000, 3000)
    return _table(
        [
            bench.figure("the same loop without Spark", "loop", work),
            bench.figure("ours, step, steady state", "ours", work),
            *_peers(bench, work),
        ]
    )


def cores(bench: Bench) -> dict[str, Any]:
    """Run ours on one core, and on two."""
    work = bench.small(bench.size.images)
    return _table(
        [
            bench.figure(f"ours, step, {count} of the cores", "ours", work, cores=count)
            for count in (1, 2)
        ]
    )


def reading(bench: Bench) -> dict[str, Any]:
    """Read alone, and see what it adds to the step: small objects from S3 and from memory."""
    work = bench.small(bench.size.small)
    rows = [
        bench.figure("reading only, ours", "read_ours", work),
        bench.figure("reading only, binaryFile (from the disk)", "read_binary", work),
        bench.figure("step, bytes already in memory", "ours_in_memory", work),
        bench.figure("step, bytes from S3", "ours", work),
    ]
    requests = counted(bench, bench.size.small) if bench.size.thorough else {}
    return _table(rows) | {"requests": requests}


def memory(bench: Bench) -> dict[str, Any]:
    """Find the largest Python worker: with huge photographs, many thumbnails, and bombs."""
    photos = bench.large(bench.size.photos, 6000, 4000)
    thumbnails = bench.small(bench.size.thumbnails)
    bombs = bench.bombs()
    once = {"repetitions": 1, "warm_ups": 0}
    return _table(
        [
            bench.figure("ours, 24 megapixels", "ours", photos, **once),
            bench.figure(f"ours, {thumbnails.images:,} thumbnails", "ours", thumbnails, **once),
            bench.figure("ours, PNG bombs of 300 megapixels", "ours", bombs, **once),
        ]
    )


def progress(bench: Bench) -> dict[str, Any]:
    """Run the step with telling its progress, and without."""
    work = bench.small(bench.size.images)
    silent = {"progress": False}
    return _table(
        [
            bench.figure("ours, with progress", "ours", work),
            bench.figure("ours, silent", "ours", work, options=silent),
        ]
    )


def _table(rows: list[Row]) -> dict[str, Any]:
    return {"figures": rows}


SCENARIOS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "step": step,
    "engines": engines,
    "reading": reading,
    "large": large,
    "cores": cores,
    "memory": memory,
    "progress": progress,
}
