"""Small Arrow batches put together into tables that are worth an insert or a row group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa


class Gathering:
    """Batches that wait for others until they have *rows* rows, which are counted as they come."""

    def __init__(self, rows: int) -> None:
        self._wanted = rows
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> pa.Table | None:
        """Take *batch*; return all that waits if it is enough now."""
        self._batches.append(batch)
        self._rows += batch.num_rows
        return self.take() if self._rows >= self._wanted else None

    def take(self) -> pa.Table | None:
        """Return all that waits, if anything does, and begin anew."""
        if not self._batches:
            return None
        table = pa.Table.from_batches(self._batches)
        self._batches, self._rows = [], 0
        return table


def grouped(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Yield the same rows in tables of at least *rows* rows, but for the last."""
    gathering = Gathering(rows)
    for batch in batches:
        if (table := gathering.add(batch)) is not None:
            yield table
    if (table := gathering.take()) is not None:
        yield table
