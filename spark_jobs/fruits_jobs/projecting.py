"""The Spark side of pca: workers read features, sum statistics, and write components."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import add
from typing import TYPE_CHECKING

import pyarrow as pa

from fruits_jobs.bases import Basis
from fruits_jobs.schemas import COMPONENTS, float_lists
from fruits_jobs.shares import FilePart, matrix_of, read_part
from fruits_jobs.statistics import NotFinite, Statistics
from fruits_jobs.table_files import TableFile, WrittenFile

if TYPE_CHECKING:
    from pyspark import Accumulator, SparkContext

KEYS = ["image_key", "label", "etag"]


@dataclass(frozen=True)
class ComponentsDestination:
    """Where components go, and the values that all their rows share."""

    folder: str
    model_version: str
    batch: str
    region: str


class BadFeatures(RuntimeError):  # noqa: N818
    """The committed file *uri* holds features that are not finite."""

    def __init__(self, uri: str, image_key: str) -> None:
        super().__init__(f"{uri} has features of {image_key!r} that are not finite")
        self.uri, self.image_key = uri, image_key


def sum_statistics(
    context: SparkContext, shares: list[list[FilePart]], region: str, done: Accumulator[int]
) -> Statistics:
    """Return the statistics of all rows of the *shares*, summed in a tree on the workers.

    A Gram matrix of 1280 features has 13 MB: the driver sees a handful, not one per file.
    """

    def of_shares(mine: Iterable[list[FilePart]]) -> Iterator[Statistics]:
        parts = (part for share in mine for part in share)
        sums = (s for part in parts for s in _part_statistics(part, region, done))
        first = next(sums, None)
        if first:  # a part of a file with few row groups may have none
            yield reduce(add, sums, first)

    return context.parallelize(shares, len(shares)).mapPartitions(of_shares).treeReduce(add)


def write_components(
    context: SparkContext,
    shares: list[list[FilePart]],
    basis: Basis,
    destination: ComponentsDestination,
    done: Accumulator[int],
) -> list[WrittenFile]:
    """Project every row of the *shares* and write one sorted file per share; return the files."""
    fitted = context.broadcast(basis)

    def write(index: int, mine: Iterable[list[FilePart]]) -> Iterator[WrittenFile]:
        from pyspark import TaskContext

        spark = TaskContext.get()
        attempt = spark.taskAttemptId() if spark else 0
        uri = f"{destination.folder}part-{index:05d}-{attempt}.parquet"
        rows = _project(chain.from_iterable(mine), fitted.value, destination, done)
        if rows:
            yield _write(pa.concat_tables(rows), uri, destination)

    files = context.parallelize(shares, len(shares)).mapPartitionsWithIndex(write).collect()
    fitted.destroy()
    return sorted(files, key=lambda file: file.uri)


def _part_statistics(part: FilePart, region: str, done: Accumulator[int]) -> Iterator[Statistics]:
    for table in read_part(part, region, ["image_key", "features"]):
        try:
            yield Statistics.of(matrix_of(table))
        except NotFinite as bad:
            raise BadFeatures(part.uri, table["image_key"][bad.row].as_py()) from bad
        done.add(table.num_rows)


def _project(
    parts: Iterable[FilePart],
    basis: Basis,
    destination: ComponentsDestination,
    done: Accumulator[int],
) -> list[pa.Table]:
    tables = []
    for part in parts:
        for table in read_part(part, destination.region, [*KEYS, "features"]):
            components = float_lists(basis.components(matrix_of(table)))
            tables.append(table.select(KEYS).append_column("components", components))
            done.add(table.num_rows)
    return tables


def _write(rows: pa.Table, uri: str, destination: ComponentsDestination) -> WrittenFile:
    rows = rows.sort_by([("label", "ascending"), ("image_key", "ascending")])
    for name in ("model_version", "batch"):
        rows = rows.append_column(name, pa.repeat(getattr(destination, name), rows.num_rows))
    file = TableFile(uri, COMPONENTS, destination.region)
    for start in range(0, rows.num_rows, 4096):
        file.write(rows.slice(start, 4096))
    return file.finish()
