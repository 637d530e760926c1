"""Committed data files without some of their rows, written again by the workers: copy on write."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fruits_jobs.objects import open_parquet
from fruits_jobs.progress import say
from fruits_jobs.table_files import TableFile

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession


@dataclass(frozen=True)
class Rewrite:
    """The data file *uri* is to lose the rows at *positions*, int64[n]."""

    uri: str
    positions: npt.NDArray[np.int64]


@dataclass(frozen=True)
class RewrittenFile:
    """The copy *uri* of the data file *old* without some rows; None, 0, 0 where none is left."""

    old: str
    uri: str | None
    rows: int
    bytes: int


def read_rewrites(uri: str, region: str, keep: Collection[str]) -> list[Rewrite]:
    """Return what the list *uri* (uri, position, image_key) asks for, file by file.

    Rows of the images in *keep* stay: they changed meanwhile, and have no newer row.
    """
    with open_parquet(uri, region) as file:
        rows = file.read()
    rows = rows.filter(pc.invert(pc.is_in(rows["image_key"], pa.array(sorted(keep), pa.string()))))
    return [
        Rewrite(name, rows.filter(pc.field("uri") == name)["position"].to_numpy())
        for name in pc.unique(rows["uri"]).to_pylist()
    ]


def changed_keys(written: Iterable[Row], region: str) -> set[str]:
    """Return the keys of the images that changed since they were listed."""
    keys: set[str] = set()
    for row in written:
        if row.kind == "changed":
            with open_parquet(row.uri, region) as file:
                keys.update(file.read(columns=["image_key"])["image_key"].to_pylist())
    return keys


def rewrite_files(
    spark: SparkSession, rewrites: list[Rewrite], folder: str, region: str
) -> list[dict[str, Any]]:
    """Write a copy of each file into *folder*, a Spark task each; return what was written."""
    if not rewrites:
        return []

    def work(numbered: tuple[int, Rewrite]) -> dict[str, Any]:
        from pyspark import TaskContext

        context = TaskContext.get()
        attempt = context.taskAttemptId() if context else 0
        number, rewrite = numbered
        target = f"{folder}rewritten-{number:05d}-{attempt}.parquet"
        return asdict(copy_without(rewrite, target, region))

    rows = sum(len(rewrite.positions) for rewrite in rewrites)
    say(f"featurize: replacing {len(rewrites):,} data files, which lose {rows:,} rows")
    tasks = spark.sparkContext.parallelize(list(enumerate(rewrites)), len(rewrites))
    return tasks.map(work).collect()


def copy_without(rewrite: Rewrite, target: str, region: str) -> RewrittenFile:
    """Write the rows that stay to *target*, a row group at a time; no value of them changes."""
    with open_parquet(rewrite.uri, region) as source:
        keep = np.ones(source.metadata.num_rows, dtype=bool)
        keep[rewrite.positions] = False
        if not keep.any():
            return RewrittenFile(rewrite.uri, None, 0, 0)
        output, start = TableFile(target, source.schema_arrow, region), 0
        for group in range(source.metadata.num_row_groups):
            rows = source.read_row_group(group)
            kept = rows.filter(pa.array(keep[start : start + rows.num_rows]))
            start += rows.num_rows
            if kept.num_rows:
                output.write(kept)
    written = output.finish()
    return RewrittenFile(rewrite.uri, written.uri, written.rows, written.bytes)
