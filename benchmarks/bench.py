"""What `make bench` runs contenders with: an S3, images as workloads, a network, a size."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.jobs import LAKE, Job
from benchmarks.running import ContenderFailed, Contestant, run, say
from benchmarks.workloads import Workload, bomb, copies, enlarged, put, put_network
from fruits.job_package import package_hash
from fruits.staging import LITERT_SUFFIX
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

    Scenarios without a verdict have *unjudged* repetitions. *thorough* runs both forms of each
    peer, ours and the loop twice, and counts requests.
    """

    images: int
    small: int
    photos: int
    thumbnails: int
    repetitions: int
    unjudged: int
    thorough: bool = True

    def repeated(self, times: int) -> Size:
        """Return the same with other repetitions, of all scenarios."""
        return replace(self, repetitions=times, unjudged=times)


def exported(weights: Weights) -> Path:
    """Return the network of *weights*, exported once by each version of the jobs' code.

    It is a .tflite, with the .onnx beside it.
    """
    name = f"benchmark-{weights.sha256[:12]}-{package_hash()[:12]}{LITERT_SUFFIX}"
    path = CACHE / "networks" / name
    if not path.exists():
        export_network(weights, path.with_suffix(".onnx"), path)
    return path.resolve()


class Bench:
    """One run of the benchmark: its S3, its images, its network.

    *done* gets each contender's figure as soon as there is one.
    """

    def __init__(
        self,
        s3: ObjectStorage,
        folder: Path,
        size: Size,
        *,
        images: Path,
        weights: str,
        peers: Path,
        done: Callable[[Row], None] = lambda _: None,
    ) -> None:
        self.s3, self.folder, self.size, self.photographs = s3, folder, size, images
        self._wanted, self._peers, self._done = weights, peers, done
        self._workloads: dict[str, Workload] = {}

    @cached_property
    def weights(self) -> Weights:
        """The network's weights."""
        return resolve_weights(BACKBONE, self._wanted, CACHE, LAKE)

    @cached_property
    def network(self) -> Path:
        """The exported network: a .tflite, with the .onnx beside it."""
        return exported(self.weights)

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
            server=self.s3.pid,
            repetitions=self.size.repetitions,
        )
        return replace(job, **changes)

    def figure(self, name: str, program: str, workload: Workload, **changes: Any) -> Row:
        """Run one of our own programs, or one on our own environment."""
        return self._run(Contestant(name, program, OURS), workload, changes)

    def peer(self, name: str, program: str, workload: Workload, **changes: Any) -> Row:
        """Run a program of the peers' environment."""
        return self._run(Contestant(name, program, self._peers, PEERS), workload, changes)

    def repeated(self, times: int) -> Bench:
        """Return the same, on the same images, with other repetitions."""
        other = copy(self)
        other.size = self.size.repeated(times)
        return other

    def on(self, s3: ObjectStorage) -> Bench:
        """Return the same with another S3, for what is not timed."""
        other = copy(self)
        other.s3, other._workloads, other._done = s3, {}, lambda _: None
        return other

    def _run(self, contestant: Contestant, workload: Workload, changes: dict[str, Any]) -> Row:
        try:
            job = self.job(workload, **changes)
            row = run(contestant, job, self.folder / "jobs").content()
        except ContenderFailed as error:
            say(str(error))
            row = {"name": contestant.name, "failed": str(error)}
        self._done(row)
        return row

    def _made(self, name: str, files: Callable[[], Any]) -> Workload:
        if name not in self._workloads:
            self._workloads[name] = put(self.s3.folder, name, files())
        return self._workloads[name]
