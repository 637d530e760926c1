"""The table `runs`: one row per batch, which the page and people read (the ledger does not).

Every batch writes the whole table anew, as one data file of about 200 bytes a row: a file for
each batch would make whoever reads thousands of batches open thousands of files. For the same
reason it remembers only its last snapshots; nobody asks what it was like last year.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from fruits.contests import win
from fruits.lake import SCHEMAS, ensure_tables, open_catalog, open_table

SNAPSHOTS_KEPT = 20


def record_run(row: dict[str, Any]) -> None:
    """Write the batch's *row*, in place of the one that an earlier try of the same run left.

    Raises CommitConflictError if other runs wrote first, five times in a row.
    """
    record_runs([row])


def record_runs(rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows of several batches at once, each as `record_run` does."""
    catalog = open_catalog()
    ensure_tables(catalog)
    win("runs", lambda: _write(_with_every_column(open_table("runs", catalog)), rows))


def read_runs(catalog: Catalog, *columns: str) -> pa.Table:
    """Return every batch's row, the newest run first; all columns, or those named."""
    return rows_of(open_table("runs", catalog), *columns)


def rows_of(table: Table, *columns: str) -> pa.Table:
    """Return the rows of *table*, which is `runs` as it was opened, as `read_runs` does."""
    # A table that an earlier version wrote may lack some until the next batch is reported.
    known = [name for name in columns or SCHEMAS["runs"].column_names if _has(table, name)]
    rows = table.scan(selected_fields=tuple(known)).to_arrow()
    return rows.sort_by([("run_after", "descending"), ("batch", "descending")])


def _write(table: Table, rows: Sequence[dict[str, Any]]) -> None:
    new = pa.Table.from_pylist(list(rows), schema=table.schema().as_arrow())
    old = table.scan().to_arrow().cast(new.schema)
    others = old.filter(pc.invert(pc.is_in(old["batch"], new["batch"].combine_chunks())))
    every = pa.concat_tables([others, new]).sort_by("run_after")
    with warnings.catch_warnings():
        # There is nothing to replace the first time.
        warnings.filterwarnings("ignore", "Delete operation did not match any records")
        with table.transaction() as transaction:
            transaction.overwrite(every)
    _forget(table)


def _forget(table: Table) -> None:
    """Drop all but the last snapshots: each reader reads the list of them first."""
    snapshots = sorted(table.metadata.snapshots, key=lambda one: one.sequence_number or 0)
    if old := [one.snapshot_id for one in snapshots[:-SNAPSHOTS_KEPT]]:
        expiry = table.maintenance.expire_snapshots()
        for snapshot_id in old:
            expiry = expiry.by_id(snapshot_id)
        expiry.commit()


def _with_every_column(table: Table) -> Table:
    """Return *table* with the columns that a newer version of this package has added."""
    missing = [field for field in SCHEMAS["runs"].fields if not _has(table, field.name)]
    if missing:
        with table.update_schema() as update:
            for field in missing:
                update.add_column(field.name, field.field_type)
        table.refresh()
    return table


def _has(table: Table, column: str) -> bool:
    return column in table.schema().column_names
