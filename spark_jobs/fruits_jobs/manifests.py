"""Reading only the rows of a manifest that somebody needs, since a manifest may have millions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fruits_jobs.objects import open_parquet
from fruits_jobs.ranges import RowRange
from fruits_jobs.schemas import MANIFEST


def image_sizes(uri: str, region: str) -> npt.NDArray[np.int64]:
    """Return size_bytes of every image of the manifest: int64[N], in its order."""
    with open_parquet(uri, region) as file:
        sizes = file.read(columns=["size_bytes"]).column("size_bytes")
    return np.asarray(sizes.to_numpy(), dtype=np.int64)


def read_rows(uri: str, region: str, rows: RowRange) -> pa.Table:
    """Return the rows of that range, with the columns of the contract."""
    metadata = _metadata(uri, region)
    start, groups = 0, []
    for index in range(metadata.num_row_groups):
        stop = start + metadata.row_group(index).num_rows
        if start < rows.stop and rows.start < stop:
            group = _row_group(uri, region, index)
            first = max(rows.start - start, 0)
            groups.append(group.slice(first, min(rows.stop, stop) - start - first))
        start = stop
    return pa.concat_tables(groups)


# A worker takes ranges that lie close together one after another: it reads a footer once.
@lru_cache(maxsize=1)
def _metadata(uri: str, region: str) -> pq.FileMetaData:
    with open_parquet(uri, region) as file:
        return file.metadata


@lru_cache(maxsize=2)
def _row_group(uri: str, region: str, index: int) -> pa.Table:
    with open_parquet(uri, region) as file:
        return file.read_row_group(index, columns=MANIFEST.names).cast(MANIFEST)
