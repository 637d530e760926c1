"""The Spark side of projecting: workers read features and write components."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fruits_jobs.bases import Basis
from fruits_jobs.schemas import COMPONENTS, float_lists
from fruits_jobs.shares import FilePart, matrix_of, read_groups
from fruits_jobs.table_files import TableFile, WrittenFile
from fruits_jobs.worker_reuse import keep_loaded

if TYPE_CHECKING:
    from pyspark import Accumulator, SparkContext

KEYS = ["image_key", "label", "etag"]
SAMPLE = 5000  # images: enough for plots and figures, and 26 MB of features for the driver
SAMPLED = ["image_key", "label", "features"]


@dataclass(frozen=True)
class ComponentsDestination:
    """Where components go, and the values that all their rows share."""

    folder: str
    model_version: str
    batch: str
    region: str


@dataclass(frozen=True)
class Projected:
    """The *files* of components, and a *sample* of the projected images and their features."""

    files: list[WrittenFile]
    sample: pa.Table | None = None


class Wanted:
    """The images to project, by (image_key, etag); without a list of them, every image."""

    def __init__(self, images: pa.Table | None) -> None:
        self._pairs = None if images is None else _pairs(images)

    def among(self, keys: pa.Table) -> pa.ChunkedArray | None:
        """Return which rows of *keys* are wanted, as booleans; None if every row is."""
        if self._pairs is None:
            return None
        return pc.is_in(_pairs(keys), value_set=self._pairs)


def _pairs(keys: pa.Table) -> pa.ChunkedArray:
    # An etag has no newline, so no two pairs have the same text.
    columns = (keys[name].cast(pa.string()) for name in ("image_key", "etag"))
    return pc.binary_join_element_wise(*columns, "\n")


def write_components(
    context: SparkContext,
    shares: list[list[FilePart]],
    basis: Basis,
    destination: ComponentsDestination,
    done: Accumulator[int],
    *,
    images: pa.Table | None = None,
    sampled: float = 0.0,
) -> Projected:
    """Project the rows of the *shares*, and write one sorted file per share.

    With *images* (image_key, etag), only the rows of those; a share without any gets no file.
    *sampled* is the share of the rows that come back in the sample (image_key, label, features):
    any row as likely as any other, the same ones for the same files.
    """
    fitted = context.broadcast((basis, images))

    def write(
        index: int, mine: Iterable[list[FilePart]]
    ) -> Iterator[tuple[WrittenFile, list[pa.Table]]]:
        from pyspark import TaskContext

        keep_loaded()
        spark = TaskContext.get()
        attempt = spark.taskAttemptId() if spark else 0
        uri = f"{destination.folder}part-{index:05d}-{attempt}.parquet"
        basis, images = fitted.value
        parts = chain.from_iterable(mine)
        rows, sample = [], []
        for found in _wanted_rows(parts, Wanted(images), destination.region, done):
            rows.append(_with_components(found.rows, basis))
            if sampled:
                sample.append(found.sample(sampled))
        if rows:
            yield _write(pa.concat_tables(rows), uri, destination), sample

    written = context.parallelize(shares, len(shares)).mapPartitionsWithIndex(write).collect()
    fitted.destroy()
    written.sort(key=lambda one: one[0].uri)
    tables = [table for _, sample in written for table in sample]
    return Projected([file for file, _ in written], pa.concat_tables(tables) if tables else None)


@dataclass(frozen=True)
class FoundRows:
    """Rows with features of the row group *group* of a *part*."""

    part: FilePart
    group: int
    rows: pa.Table

    def sample(self, share: float) -> pa.Table:
        """Return about that share of the rows (image_key, label, features), at random."""
        # Of the file's and the group's own seed: a repeated task draws the same rows.
        seed = [zlib.crc32(self.part.uri.encode()), self.part.part, self.group]
        drawn = np.random.default_rng(seed).random(self.rows.num_rows) < share
        return self.rows.select(SAMPLED).filter(pa.array(drawn))


def _wanted_rows(
    parts: Iterable[FilePart], wanted: Wanted, region: str, done: Accumulator[int]
) -> Iterator[FoundRows]:
    for part in parts:
        for group, (keys, read_features) in enumerate(read_groups(part, region, KEYS)):
            rows = wanted.among(keys)
            if rows is None or pc.any(rows).as_py():
                table = keys.append_column("features", read_features())
                yield FoundRows(part, group, table if rows is None else table.filter(rows))
            done.add(keys.num_rows)


def _with_components(rows: pa.Table, basis: Basis) -> pa.Table:
    components = float_lists(basis.components(matrix_of(rows)))
    return rows.select(KEYS).append_column("components", components)


def _write(rows: pa.Table, uri: str, destination: ComponentsDestination) -> WrittenFile:
    rows = rows.sort_by([("label", "ascending"), ("image_key", "ascending")])
    for name in ("model_version", "batch"):
        rows = rows.append_column(name, pa.repeat(getattr(destination, name), rows.num_rows))
    file = TableFile(uri, COMPONENTS, destination.region)
    for start in range(0, rows.num_rows, 4096):
        file.write(rows.slice(start, 4096))
    return file.finish()
