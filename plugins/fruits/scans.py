"""Reading a table's rows batch by batch, in memory that does not grow with the table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.table import DataScan

FILES_AT_ONCE = 4


def stream_rows(scan: DataScan) -> Iterator[pa.RecordBatch]:
    """Yield the rows of *scan*, which has no limit, a few data files at a time, in any order.

    Missing was that in PyIceberg's `to_arrow_batch_reader`: it begins to read all files at once,
    and holds those that are not asked for yet (0.12, ArrowScan.to_record_batches).
    """
    columns = scan.projection()
    schema = schema_to_pyarrow(columns)
    files = ArrowScan(scan.table_metadata, scan.io, columns, scan.row_filter, scan.case_sensitive)
    tasks = iter(scan.plan_files())
    while some := list(islice(tasks, FILES_AT_ONCE)):
        rows = files.to_record_batches(some)
        # What a file calls its types may differ from what the table does.
        yield from pa.RecordBatchReader.from_batches(schema, rows).cast(schema)
