"""What a Spark worker does with its share of a manifest: read, decode, infer, one row per image."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from fruits_jobs.engines import Engine, Features, make_engine
from fruits_jobs.fetching import Changed, Fetcher
from fruits_jobs.images import Pixels, UndecodableImage, decode
from fruits_jobs.manifests import read_rows
from fruits_jobs.ranges import RowRange
from fruits_jobs.read_ahead import read_ahead
from fruits_jobs.scaling import PIXEL_BYTES
from fruits_jobs.schemas import OUTCOMES
from fruits_jobs.worker_reuse import keep_loaded

if TYPE_CHECKING:
    from pyspark import Accumulator, Broadcast, SparkContext

ROWS_PER_BATCH = 256  # handed to Spark at once: 1.3 MB of MobileNetV2 features
READ_AHEAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class FeaturizeTask:
    """All that a worker must know, apart from the network: small, sent with every task."""

    manifest: str
    region: str
    backbone: str
    network_id: str
    length: int
    rows_per_file: int
    batch_size: int
    readers: int
    max_pixels: int


@dataclass(frozen=True)
class Counters:
    """Spark accumulators: images done, core-seconds of inferring, and of waiting and decoding."""

    done: Accumulator[int]
    inferring: Accumulator[float]
    loading: Accumulator[float]

    @classmethod
    def of(cls, context: SparkContext) -> Self:
        """Return new counters of that Spark context."""
        seconds = (context.accumulator(0.0), context.accumulator(0.0))
        return cls(context.accumulator(0), *seconds)


@dataclass(slots=True)
class Outcome:
    """What became of one image; *kind* is features, quarantine or changed.

    *pixels* are let go of once the network has seen them.
    """

    kind: str
    pixels: Pixels | None = None
    width: int | None = None
    height: int | None = None
    reason: str | None = None
    message: str | None = None


class FeaturesNotFinite(RuntimeError):  # noqa: N818
    """The network gave NaN or infinity for *uri*: the weights are broken, not the image."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"the network's features of {uri!r} are not finite: check the weights")
        self.uri = uri


def featurize_range(
    task: FeaturizeTask, rows: RowRange, network: Broadcast[Any], counters: Counters
) -> Iterator[pa.RecordBatch]:
    """Yield the OUTCOMES of the manifest's *rows*, in order.

    FeaturesNotFinite names the image whose features are; see Fetcher.fetch for failing reads.
    """
    engine = _engine(task, network)
    keep_loaded()
    images = read_rows(task.manifest, task.region, rows)
    outcomes = _timed(load_images(images, task), counters.loading)
    for start in range(0, images.num_rows, ROWS_PER_BATCH):
        chunk = images.slice(start, ROWS_PER_BATCH)
        found, features = _infer(engine, islice(outcomes, chunk.num_rows), task, counters)
        _check_finite(features, chunk, found)
        yield outcome_rows(chunk, found, features, rows.start + start, task.rows_per_file)
        counters.done.add(chunk.num_rows)


def load_images(images: pa.Table, task: FeaturizeTask) -> Iterator[Outcome]:
    """Yield what became of each image of a manifest table when it was read and decoded.

    Threads read ahead; the caller's decodes, just before the image is wanted (docs/decisions/0017).
    """
    columns = ("image_uri", "etag", "size_bytes")
    items = zip(*(images.column(name).to_pylist() for name in columns), strict=True)
    fetched = read_ahead(
        partial(_fetch, Fetcher(task.region), max(READ_AHEAD_BYTES, task.max_pixels * PIXEL_BYTES)),
        items,
        lambda item: item[2],
        task.readers,
        READ_AHEAD_BYTES,
    )
    for one in fetched:
        yield one if isinstance(one, Outcome) else _decoded(one, task.max_pixels)


def outcome_rows(
    images: pa.Table,
    outcomes: list[Outcome],
    features: Features,
    first_row: int,
    rows_per_file: int,
) -> pa.RecordBatch:
    """Return manifest rows with what became of them as OUTCOMES.

    *features* is float32[M, D], one row for each of the M outcomes that have pixels, in order;
    *first_row* is the number of the first image in the manifest.
    """
    files = (first_row + np.arange(len(outcomes))) // rows_per_file
    columns = [
        *(column.combine_chunks() for column in images.columns),
        pa.array([o.width for o in outcomes], pa.int32()),
        pa.array([o.height for o in outcomes], pa.int32()),
        _spread([o.kind == "features" for o in outcomes], features),
        pa.array([o.kind for o in outcomes], pa.string()),
        pa.array([o.reason for o in outcomes], pa.string()),
        pa.array([o.message for o in outcomes], pa.string()),
        pa.array(files, pa.int32()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=OUTCOMES)


def _fetch(fetcher: Fetcher, largest: int, image: tuple[str, str, int]) -> bytes | Outcome:
    uri, etag, size = image
    if size > largest:  # a film that is called .jpg would take all memory, again at each retry
        message = f"{size / 1e6:,.0f} MB were not read, the limit is {largest / 1e6:,.0f}"
        return Outcome("quarantine", reason="too_large", message=message)
    try:
        return fetcher.fetch(uri, etag, size)
    except Changed as change:
        return Outcome("changed", reason=change.reason)


def _decoded(data: bytes, max_pixels: int) -> Outcome:
    try:
        good = decode(data, max_pixels)
    except UndecodableImage as bad:
        return Outcome("quarantine", reason=bad.reason, message=bad.message)
    return Outcome("features", good.pixels, good.width, good.height)


def _infer(
    engine: Engine, outcomes: Iterator[Outcome], task: FeaturizeTask, counters: Counters
) -> tuple[list[Outcome], Features]:
    """Return the outcomes and the features, float32[M, D], of the M that have pixels."""
    found: list[Outcome] = []
    features = [np.empty((0, task.length), np.float32)]
    while batch := list(islice(outcomes, task.batch_size)):
        pixels = [outcome.pixels for outcome in batch if outcome.pixels is not None]
        if pixels:
            started = time.perf_counter()
            features.append(engine.features(pixels))
            counters.inferring.add(time.perf_counter() - started)
        for outcome in batch:
            outcome.pixels = None
        found += batch
    return found, np.concatenate(features)


def _check_finite(features: Features, images: pa.Table, outcomes: list[Outcome]) -> None:
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        rows = [index for index, outcome in enumerate(outcomes) if outcome.kind == "features"]
        raise FeaturesNotFinite(images["image_uri"][rows[int(np.argmin(finite))]].as_py())


def _spread(present: list[bool], features: Features) -> Any:
    """Return the rows of *features* as bytes where *present*, null elsewhere."""
    ends = np.concatenate([[0], np.cumsum(present)]) * features.itemsize * features.shape[1]
    valid = np.packbits(present, bitorder="little")
    parts = [pa.py_buffer(part) for part in (valid, ends.astype(np.int32), features)]
    return pa.Array.from_buffers(pa.binary(), len(present), parts)


def _timed(outcomes: Iterator[Outcome], loading: Accumulator[float]) -> Iterator[Outcome]:
    while True:
        started = time.perf_counter()
        outcome = next(outcomes, None)
        loading.add(time.perf_counter() - started)
        if outcome is None:
            return
        yield outcome


_engines: dict[str, Engine] = {}


def _engine(task: FeaturizeTask, network: Broadcast[Any]) -> Engine:
    """Return this Python worker's engine: made once, however many tasks the worker is given."""
    if task.network_id not in _engines:
        _engines.clear()
        _engines[task.network_id] = make_engine(task.backbone, network.value)
    return _engines[task.network_id]
