"""How the files of a table are shared out: in parts of files, so that big files do not wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fruits_jobs.objects import open_parquet


@dataclass(frozen=True)
class FilePart:
    """The *part*-th of *parts* about equal runs of row groups of the Parquet file *uri*."""

    uri: str
    part: int
    parts: int


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


def read_part(part: FilePart, region: str, columns: list[str]) -> Iterator[pa.Table]:
    """Yield the part's row groups, one at a time, with those columns."""
    with open_parquet(part.uri, region) as file:
        groups = file.metadata.num_row_groups
        first, last = (groups * edge // part.parts for edge in (part.part, part.part + 1))
        for group in range(first, last):
            yield file.read_row_group(group, columns=columns)


def matrix_of(table: pa.Table, column: str = "features") -> npt.NDArray[np.float32]:
    """Return a column of equally long float lists as float32[N, D]; ValueError if they are not."""
    lists: Any = table.column(column).combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    width = len(values) // max(1, len(lists))
    lengths = np.diff(lists.offsets.to_numpy())
    if lists.null_count or (lengths != width).any():
        raise ValueError(f"the lists of column {column} are not all of length {width}")
    return np.asarray(values, np.float32).reshape(len(lists), width)
