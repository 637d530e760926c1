"""The statistics of all features, of which only those of new data files have to be computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import obstore
import pyarrow.parquet as pq

from fruits_jobs.data_files import DataFile, RowsDiffer
from fruits_jobs.file_sets import FileSet, file_sets, terms
from fruits_jobs.objects import bucket_store, open_parquet, read_bytes, split_uri, write_bytes
from fruits_jobs.read_ahead import read_ahead
from fruits_jobs.shares import SMALLEST_SHARE, matrix_of, row_groups
from fruits_jobs.statistics import NotFinite, Statistics
from fruits_jobs.statistics_entries import BadEntry, entry_bytes, read_entry
from fruits_jobs.worker_reuse import keep_loaded

if TYPE_CHECKING:
    from pyspark import Accumulator, SparkContext

TREE_FANOUT = 4
PARTITIONS_PER_CORE = 2
AT_ONCE = 2  # sets in a worker: one is read or stored while one is summed
ROWS_PER_ENTRY = 1024  # as many rows take about as long to compute as an entry to read


class BadFeatures(RuntimeError):  # noqa: N818
    """The committed file *uri* holds features that are not finite."""

    def __init__(self, uri: str, image_key: str) -> None:
        super().__init__(
            f"{uri} has features of {image_key!r} that are not finite. No commit lets such a row"
            " in: something else wrote this file. Delete that row from features; the next batch"
            " makes it again"
        )
        self.uri, self.image_key = uri, image_key


@dataclass(frozen=True)
class Sum:
    """Statistics and where they are from: rows *loaded* and *computed*, entries *rejected*."""

    statistics: Statistics
    loaded: int = 0
    computed: int = 0
    rejected: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        """Return the sum of both."""
        return type(self)(
            self.statistics + other.statistics,
            self.loaded + other.loaded,
            self.computed + other.computed,
            self.rejected + other.rejected,
        )


@dataclass(frozen=True)
class StatisticsCache:
    """Entries under *folder*, of which the names in *known* were there when the step began.

    Not a source of truth: an entry that is missing, damaged or of other content is made again.
    """

    folder: str
    region: str
    known: frozenset[str] = field(default=frozenset())

    @classmethod
    def open(cls, folder: str, region: str) -> Self:
        """Return the cache of that folder, having looked at what is in it."""
        bucket, prefix = split_uri(folder)
        found = obstore.list(bucket_store(bucket, region), prefix.rstrip("/")).collect()
        return cls(folder, region, frozenset(item["path"].rpartition("/")[2] for item in found))

    def sum_of(self, part: FileSet) -> Sum:
        """Return the statistics of a set: its entry's, or made from its parts, or from its rows."""
        rejected: tuple[str, ...] = ()
        if part.name in self.known:
            try:
                entry = read_bytes(f"{self.folder}{part.name}", self.region)
                return Sum(read_entry(entry, part.files), loaded=part.rows)
            except BadEntry as bad:
                rejected = (f"{part}: {bad.why}",)
            except FileNotFoundError:
                pass  # another run removed it
        if part.parts:
            made = reduce(add, map(self.sum_of, part.parts))
        else:
            made = Sum(file_statistics(part.files[0], self.region), computed=part.rows)
        self._store(part, made.statistics)
        return replace(made, rejected=rejected + made.rejected)

    def refresh(self, part: FileSet) -> None:
        """Make the entry of a set, if there is none that is right."""
        self.sum_of(part)

    def remove_others(self, sets: list[FileSet]) -> None:
        """Remove the entries of files that are no longer there.

        They are rows that somebody may have wanted gone, and nobody would read them again.
        """
        wanted = {part.name for top in sets for part in top.walk()}
        bucket, prefix = split_uri(self.folder)
        others = [f"{prefix}{name}" for name in sorted(self.known - wanted)]
        if others:
            obstore.delete(bucket_store(bucket, self.region), others)

    def _store(self, part: FileSet, statistics: Statistics) -> None:
        # The entry of fewer rows than features would be larger than they are; and that of a single
        # row would be an image's vector, kept where nobody looks for images.
        if part.rows > statistics.width:
            entry = entry_bytes(statistics, part.files)
            write_bytes(f"{self.folder}{part.name}", entry, self.region)


def cached_statistics(
    context: SparkContext, files: list[DataFile], cache: StatisticsCache, done: Accumulator[int]
) -> Sum:
    """Return the statistics of all rows of *files*, and leave the cache as they need it.

    A matrix of 1280 features has 13 MB: workers sum them in a tree, the driver sees a handful.
    """
    sets = file_sets(files)
    found = _tree_sum(context, _tasks(terms(sets, set(cache.known)), cache), cache, done)
    # Sums that the next days can begin with; of too few rows they would not be stored.
    width = found.statistics.width
    new = [top for top in sets if top.parts and top.name not in cache.known and top.rows > width]
    if new:
        now = StatisticsCache.open(cache.folder, cache.region)
        context.parallelize(new, len(new)).foreach(now.refresh)
    cache.remove_others(sets)
    return found


def file_statistics(file: DataFile, region: str) -> Statistics:
    """Return the statistics of the rows of one data file, reading a row group at a time.

    RowsDiffer if the table says otherwise than the file, BadFeatures on NaN and infinity.
    """
    keys = None

    def matrices(parquet: pq.ParquetFile) -> Iterator[npt.NDArray[np.float32]]:
        nonlocal keys
        for table in row_groups(parquet, ["image_key", "features"]):
            keys = table["image_key"]
            if table.num_rows:
                yield matrix_of(table)

    with open_parquet(file.uri, region) as parquet:
        if parquet.metadata.num_rows != file.rows:
            raise RowsDiffer(file.uri, file.rows, parquet.metadata.num_rows)
        try:
            return Statistics.of_parts(matrices(parquet))
        except NotFinite as bad:
            key = keys[bad.row].as_py() if keys is not None else "?"
            raise BadFeatures(file.uri, key) from bad


def _tasks(wanted: list[FileSet], cache: StatisticsCache) -> list[list[FileSet]]:
    """Share out sets into tasks that are worth starting."""
    tasks: list[list[FileSet]] = [[]]
    held = 0
    for part in wanted:
        if held >= SMALLEST_SHARE:
            tasks.append([])
            held = 0
        tasks[-1].append(part)
        held += ROWS_PER_ENTRY if part.name in cache.known else part.rows
    return tasks


def _tree_sum(
    context: SparkContext,
    tasks: list[list[FileSet]],
    cache: StatisticsCache,
    done: Accumulator[int],
) -> Sum:
    def of_tasks(mine: Iterable[list[FileSet]]) -> Iterator[Sum]:
        keep_loaded()
        total = None
        parts = (part for task in mine for part in task)
        for found in read_ahead(cache.sum_of, parts, lambda _: 1, AT_ONCE, AT_ONCE + 1):
            total = total + found if total else found
            done.add(found.statistics.count)
        if total:
            yield total

    # A sum of 1280 features has 7 MB: fewer partitions than tasks, and fewer of them travel. Each
    # level of the tree leaves a quarter, so that the driver adds up five sums at most.
    partitions = min(len(tasks), PARTITIONS_PER_CORE * context.defaultParallelism)
    depth = max(2, math.ceil(math.log(partitions, TREE_FANOUT)))
    return context.parallelize(tasks, partitions).mapPartitions(of_tasks).treeReduce(add, depth)
