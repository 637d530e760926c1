"""Gathering: the same rows in fewer tables, at a cost that does not grow with what waits."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from fruits.gathering import grouped


class EndError(Exception):
    """There are no more batches."""


def test_rows_keep_their_order_in_tables_that_are_large_enough() -> None:
    """All rows come once; each table but the last has as many as are wanted, or a few more."""
    batches = (pa.record_batch({"n": [n, n + 1]}) for n in range(0, 14, 2))

    tables = list(grouped(batches, 5))

    assert [table["n"].to_pylist() for table in tables] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10, 11],
        [12, 13],
    ]


def test_the_rows_of_a_batch_are_counted_once() -> None:
    """What waits is not counted anew for each batch: thousands of one row would take seconds."""
    asked: list[None] = []

    class Batch:
        @property
        def num_rows(self) -> int:
            asked.append(None)
            return 1

    def batches() -> Iterator[Batch]:
        yield from (Batch() for _ in range(1000))
        raise EndError

    with pytest.raises(EndError):
        list(grouped(batches(), 10_000))

    assert len(asked) == 1000


def test_nothing_is_no_table() -> None:
    """Without a batch there is nothing to insert or to write."""
    assert list(grouped([], 1)) == []
