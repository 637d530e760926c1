"""The exact columns that the jobs read and write: the contract with the tables, on one page."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")
# "element" is the name that Iceberg and Parquet both give to the items of a list.
FLOATS = pa.list_(pa.field("element", pa.float32(), nullable=False))


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


MANIFEST = _schema(
    image_key=pa.string(),
    image_uri=pa.string(),
    label=pa.string(),
    etag=pa.string(),
    size_bytes=pa.int64(),
    last_modified=TIME,
)
FEATURES = _schema(
    image_key=pa.string(),
    image_uri=pa.string(),
    label=pa.string(),
    etag=pa.string(),
    size_bytes=pa.int64(),
    last_modified=TIME,
    width=pa.int32(),
    height=pa.int32(),
    features=FLOATS,
    feature_model=pa.string(),
    batch=pa.string(),
)
QUARANTINE = _schema(
    image_key=pa.string(),
    image_uri=pa.string(),
    label=pa.string(),
    etag=pa.string(),
    size_bytes=pa.int64(),
    last_modified=TIME,
    reason=pa.string(),
    error_message=pa.string(),
    batch=pa.string(),
)
CHANGED = _schema(image_key=pa.string(), etag=pa.string(), reason=pa.string())
COMPONENTS = _schema(
    image_key=pa.string(),
    label=pa.string(),
    etag=pa.string(),
    components=FLOATS,
    model_version=pa.string(),
    batch=pa.string(),
)

_NULLABLE_MANIFEST: Any = [pa.field(f.name, f.type) for f in list(MANIFEST)]
# What the featurize workers hand to Spark's shuffle: one row per image whatever became of it.
OUTCOMES: Any = pa.schema(
    [
        *_NULLABLE_MANIFEST,
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        # float32[D] as bytes: Spark copies those at once, and a list of floats one by one, twice.
        pa.field("features", pa.binary()),
        pa.field("outcome", pa.string()),  # features, quarantine or changed
        pa.field("reason", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("file", pa.int32()),  # index of the output file
    ]
)
OUTCOMES_DDL = (
    "image_key string, image_uri string, label string, etag string, size_bytes bigint, "
    "last_modified timestamp, width int, height int, features binary, outcome string, "
    "reason string, error_message string, file int"
)

# What the writers hand back to the driver: one row per file.
WRITTEN_DDL = "kind string, uri string, rows bigint, bytes bigint, reasons string"
WRITTEN = pa.schema(
    [
        pa.field("kind", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("reasons", pa.string()),  # JSON: reason -> count
    ]
)


def float_lists(matrix: npt.NDArray[np.float32]) -> Any:
    """Return a C-contiguous [N, D] matrix as N lists of D floats, without copying the floats."""
    count, width = matrix.shape
    offsets: Any = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(width))
    lists: Any = pa.ListArray
    return lists.from_arrays(offsets, pa.array(matrix.reshape(-1)), type=FLOATS)
