"""Reading a table of any size: all rows, and never all files at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import ArrowScan

from fruits.lake import open_table
from fruits.scans import FILES_AT_ONCE, stream_rows

FILES = 2 * FILES_AT_ONCE + 1


@pytest.fixture
def read_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many files PyIceberg was given, each time."""
    given: list[int] = []
    read = ArrowScan.to_record_batches

    def noted(scan: ArrowScan, tasks: Iterable[Any]) -> Any:
        some = list(tasks)
        given.append(len(some))
        return read(scan, some)

    monkeypatch.setattr(ArrowScan, "to_record_batches", noted)
    return given


def test_few_files_are_read_at_once(catalog: Catalog, read_at_once: list[int]) -> None:
    """A table of thousands of files fits in memory: nobody reads on before the rows are taken."""
    table = open_table("quarantine", catalog)
    for number in range(FILES):
        table.append(pa.table({"image_key": [f"a/{number}.jpg"], "reason": ["empty"]}))

    rows = stream_rows(table.scan(selected_fields=("image_key", "reason")))
    next(rows)
    after_the_first = list(read_at_once)
    keys = [key for batch in rows for key in batch["image_key"].to_pylist()]

    assert after_the_first == [FILES_AT_ONCE]
    assert read_at_once == [FILES_AT_ONCE, FILES_AT_ONCE, 1]
    assert len(set(keys)) == FILES - 1


def test_only_matching_rows_come(catalog: Catalog) -> None:
    """Filter and columns are the scan's own; a table without rows has no batch."""
    table = open_table("quarantine", catalog)
    assert list(stream_rows(table.scan())) == []
    table.append(pa.table({"image_key": ["a", "b"], "reason": ["empty", "corrupt"]}))

    found = stream_rows(table.scan("reason = 'corrupt'", selected_fields=("image_key",)))

    assert [row for batch in found for row in batch.to_pylist()] == [{"image_key": "b"}]
