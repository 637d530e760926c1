"""Parquet files of the lake's tables, written row group by row group straight to S3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fruits_jobs.objects import open_output

# Columns with few distinct values; a dictionary of floats or keys would only cost time.
REPEATED = ("label", "reason", "feature_model", "model_version", "batch")
ROW_GROUP_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class WrittenFile:
    """One finished file: its *uri*, *rows* and *bytes*."""

    uri: str
    rows: int
    bytes: int


class TableFile:
    """One Parquet file that grows; it exists once :meth:`finish` returned."""

    def __init__(self, uri: str, schema: pa.Schema, region: str) -> None:
        self._schema = schema
        self._uri, self._object = uri, open_output(uri, region)
        repeated: Any = [name for name in REPEATED if name in schema.names]
        self._parquet = pq.ParquetWriter(
            self._object,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=repeated,
            # Iceberg prunes by bounds of scalar columns; those of a list's floats say nothing.
            write_statistics=[f.name for f in schema if not pa.types.is_list(f.type)],
        )
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, rows: pa.Table) -> None:
        """Append *rows*, which must have the schema's columns; no value of them may be null."""
        self._waiting.append(conform(rows, self._schema))
        self._rows += rows.num_rows
        if sum(table.nbytes for table in self._waiting) >= ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> WrittenFile:
        """Complete the file and return what it is."""
        self._flush()
        self._parquet.close()
        size = self._object.tell()
        self._object.close()
        return WrittenFile(self._uri, self._rows, size)

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._parquet.write_table(table, row_group_size=table.num_rows)
            self._waiting = []


def conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the schema's columns of *rows* with its exact types; ValueError on any null."""
    chosen = rows.select(schema.names)
    for name in schema.names:
        if chosen[name].null_count:
            raise ValueError(f"column {name} has {chosen[name].null_count} nulls")
    return chosen.cast(schema)
