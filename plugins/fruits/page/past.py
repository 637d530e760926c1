"""The last batches, from the table `runs`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog

SHOWN = 20
COLUMNS = (
    "batch",
    "run_id",
    "outcome",
    "failed_tasks",
    "run_after",
    "reported_at",
    "started_at",
    "added",
    "deleted",
    "features",
    "quarantined",
    "quarantine_reasons",
    "changed",
    "beside",
    "cluster_id",
    "worst_case",
    "actual_cost",
    "currency",
)


@dataclass(frozen=True)
class PastBatch:
    """One row of `runs`, as the page shows it."""

    row: dict[str, Any]
    reasons: dict[str, int]

    @property
    def succeeded(self) -> bool:
        """Whether every task of its run did."""
        return bool(self.row["outcome"] == "success")

    @property
    def took(self) -> timedelta | None:
        """How long it took from the start of its run to its report."""
        started: datetime | None = self.row.get("started_at")
        return self.row["reported_at"] - started if started else None

    @property
    def failed(self) -> str:
        """The tasks that failed, as far as the row tells."""
        return str(self.row["failed_tasks"] or "a task that was stopped")


@dataclass(frozen=True)
class Past:
    """The last *batches* of all *count*, the last reported first; *last_success* may be older."""

    batches: tuple[PastBatch, ...]
    count: int
    last_success: PastBatch | None = None

    @property
    def last(self) -> PastBatch | None:
        """The batch that was reported last."""
        return self.batches[0] if self.batches else None

    def batch(self, name: str) -> PastBatch | None:
        """Return the batch of that id, if it is one of the last."""
        return next((one for one in self.batches if one.row["batch"] == name), None)


class PastReader:
    """Reads `runs`, again only if a batch was reported since it was read."""

    def __init__(self) -> None:
        self._known: tuple[str, Past] | None = None

    def read(self, catalog: Catalog) -> Past:
        """Return the last 20 batches; none if no batch was reported yet."""
        from pyiceberg.exceptions import NoSuchTableError

        from fruits.lake import open_table
        from fruits.runs import rows_of

        try:
            table = open_table("runs", catalog)
        except NoSuchTableError:
            return Past((), 0)
        if self._known is None or self._known[0] != table.metadata_location:
            self._known = table.metadata_location, _past(rows_of(table, *COLUMNS))
        return self._known[1]


def _past(rows: pa.Table) -> Past:
    import pyarrow.compute as pc

    # Not by the day that a run is of: a backfilled one, or one that was cleared, is of an old one.
    rows = rows.sort_by([("reported_at", "descending")])
    successes = rows.filter(pc.equal(rows["outcome"], "success"))
    last_success = next(iter(_batches(successes.slice(0, 1))), None)
    return Past(_batches(rows.slice(0, SHOWN)), rows.num_rows, last_success)


def _batches(rows: pa.Table) -> tuple[PastBatch, ...]:
    empty = dict.fromkeys(COLUMNS)
    shown = [empty | row for row in rows.to_pylist()]
    return tuple(PastBatch(row, json.loads(row["quarantine_reasons"] or "{}")) for row in shown)
