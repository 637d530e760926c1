"""How the files of a table are shared out: in parts of files, so that big files do not wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fruits_jobs.objects import open_parquet

SMALLEST_SHARE = 8192  # rows: below this, a Spark task costs more than it gains


@dataclass(frozen=True)
class FilePart:
    """The *part*-th of *parts* about equal runs of row groups of the Parquet file *uri*."""

    uri: str
    part: int
    parts: int

    def groups(self, count: int) -> range:
        """Return the part's row groups of the file's *count*."""
        first, last = (count * edge // self.parts for edge in (self.part, self.part + 1))
        return range(first, last)


def file_parts(files: list[tuple[str, int]], rows_per_part: int) -> list[list[FilePart]]:
    """Share out (uri, rows) files into lists of parts of about *rows_per_part* rows each.

    Larger files are cut, smaller ones grouped; every row is in exactly one list.
    """
    lists: list[list[FilePart]] = [[]]
    held = 0.0
    for uri, rows in files:
        parts = max(1, round(rows / rows_per_part))
        for part in range(parts):
            if held and held + rows / parts > rows_per_part * 1.25:
                lists.append([])
                held = 0.0
            lists[-1].append(FilePart(uri, part, parts))
            held += rows / parts
    return [parts for parts in lists if parts]


def row_groups(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.Table]:
    """Yield the file's row groups, one at a time, with those columns."""
    for group in range(file.metadata.num_row_groups):
        yield file.read_row_group(group, columns=columns)


def read_groups(
    part: FilePart, region: str, columns: list[str]
) -> Iterator[tuple[pa.Table, Callable[[], pa.ChunkedArray]]]:
    """Yield the part's row groups with those columns, and a function that reads its features."""
    with open_parquet(part.uri, region) as file:
        for group in part.groups(file.metadata.num_row_groups):
            yield file.read_row_group(group, columns=columns), partial(_features, file, group)


def _features(file: pq.ParquetFile, group: int) -> pa.ChunkedArray:
    return file.read_row_group(group, columns=["features"])["features"]


def matrix_of(table: pa.Table) -> npt.NDArray[np.float32]:
    """Return the column features as float32[N, D]; ValueError if its lists differ in length."""
    lists: Any = table.column("features").combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    width = len(values) // max(1, len(lists))
    lengths = np.diff(lists.offsets.to_numpy())
    if lists.null_count or (lengths != width).any():
        raise ValueError(f"the lists of column features are not all of length {width}")
    return np.asarray(values, np.float32).reshape(len(lists), width)
