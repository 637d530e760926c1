"""The table `runs`: a row per batch, in a table that stays as quick to read as it was at first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog

from fruits.errors import CommitConflictError
from fruits.lake import SCHEMAS, open_catalog, open_table
from fruits.runs import read_runs, record_run

KEPT = 4  # snapshots; the real number would only take longer
FIRST = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)


def row(day: int, **more: Any) -> dict[str, Any]:
    """Return the row of a run of that day: most of it empty."""
    known = {
        "batch": f"batch-{day}",
        "run_after": FIRST + timedelta(days=day),
        "outcome": "success",
    }
    return dict.fromkeys(SCHEMAS["runs"].column_names) | known | more


def batches(catalog: Catalog) -> list[str]:
    """Return the ids of the batches that have a row, the newest first."""
    found: list[str] = read_runs(catalog, "batch", "run_after")["batch"].to_pylist()
    return found


def test_the_newest_run_comes_first(catalog: Catalog) -> None:
    """Readers get the batches by the time of their run, whatever order they were reported in."""
    for day in (2, 1, 3):
        record_run(row(day))

    assert batches(catalog) == ["batch-3", "batch-2", "batch-1"]


def test_a_row_is_replaced_by_that_of_a_later_try(catalog: Catalog) -> None:
    """A run that is cleared and reports again has one row: the last."""
    record_run(row(1, outcome="failed"))
    record_run(row(2))
    record_run(row(1, outcome="success", features=7))

    rows = read_runs(catalog).to_pylist()
    assert [(one["batch"], one["outcome"]) for one in rows] == [
        ("batch-2", "success"),
        ("batch-1", "success"),
    ]
    assert rows[1]["features"] == 7


def test_many_batches_are_one_file_and_a_short_history(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader opens one data file and a short list of snapshots, after however many batches."""
    monkeypatch.setattr("fruits.runs.SNAPSHOTS_KEPT", KEPT)
    for day in range(KEPT + 2):
        record_run(row(day))

    table = open_table("runs", catalog)
    assert len(list(table.scan().plan_files())) == 1
    assert len(table.metadata.snapshots) <= KEPT
    assert len(batches(catalog)) == KEPT + 2


def test_a_table_of_an_earlier_version_gets_its_new_columns(catalog: Catalog) -> None:
    """A lake that is older than a column keeps its rows, and has the column from then on."""
    record_run(row(1, features=5))
    with open_table("runs", catalog).update_schema() as update:
        update.delete_column("started_at")
    before = read_runs(catalog)

    record_run(row(2, started_at=FIRST))

    assert "started_at" not in before.column_names
    rows = read_runs(catalog).to_pylist()
    assert [(one["features"], one["started_at"]) for one in rows] == [(None, FIRST), (5, None)]


class RivalCatalog(SqlCatalog):
    """A catalog in which another run reports its batch just before each commit of this one."""

    rivals = 1
    reported = 0

    def commit_table(self, table: Any, *arguments: Any) -> Any:
        if table.name()[-1] == "runs" and RivalCatalog.reported < RivalCatalog.rivals:
            RivalCatalog.reported += 1
            number, RivalCatalog.rivals = RivalCatalog.rivals, 0
            record_run(row(100 + RivalCatalog.reported))
            RivalCatalog.rivals = number
        return super().commit_table(table, *arguments)


@pytest.mark.parametrize("known", [0, 1])
def test_two_runs_that_report_at_once_both_have_a_row(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    """Whoever loses the race reads again what the other wrote, in an empty table too."""
    for day in range(known):
        record_run(row(day))
    rival(monkeypatch, rivals=1)

    record_run(row(50))

    assert batches(open_catalog()) == ["batch-101", "batch-50", *["batch-0"] * known]


def test_a_race_that_is_never_won_is_told(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After five lost races the task fails with the way out, instead of trying for ever."""
    rival(monkeypatch, rivals=1000)

    with pytest.raises(CommitConflictError, match=r"runs before each of 5 .* clear this task"):
        record_run(row(50))


def rival(monkeypatch: pytest.MonkeyPatch, rivals: int) -> None:
    """Let other runs report first, that many times."""
    monkeypatch.setattr(RivalCatalog, "rivals", rivals)
    monkeypatch.setattr(RivalCatalog, "reported", 0)
    implementation = f"{RivalCatalog.__module__}.{RivalCatalog.__name__}"
    monkeypatch.delenv("PYICEBERG_CATALOG__FRUITS__TYPE")
    monkeypatch.setenv("PYICEBERG_CATALOG__FRUITS__PY_CATALOG_IMPL", implementation)
