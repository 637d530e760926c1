"""The table `runs`: one row per batch, which the page and people read (the ledger does not)."""

from __future__ import annotations

import warnings
from typing import Any

import pyarrow as pa

from fruits.lake import ensure_tables, equals, open_catalog, open_table


def record_run(row: dict[str, Any]) -> None:
    """Write the batch's *row*, in place of the one that an earlier try of the same run left."""
    catalog = open_catalog()
    ensure_tables(catalog)
    table = open_table("runs", catalog)
    rows = pa.Table.from_pylist([row], schema=table.schema().as_arrow())
    with warnings.catch_warnings():
        # There is nothing to replace the first time.
        warnings.filterwarnings("ignore", "Delete operation did not match any records")
        table.overwrite(rows, overwrite_filter=equals("batch", row["batch"]))
