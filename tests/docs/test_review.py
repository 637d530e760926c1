"""The tables of docs/review.md are what sizing and prices make of them today."""

from __future__ import annotations

from benchmarks.costs_at_scale import PAGE, cost_table, size_table, written


def test_the_tables_are_those_of_today() -> None:
    """A price, a speed or a cap that changes is a figure in the review that changes."""
    page = PAGE.read_text()

    assert written(page) == page, "make cost-tables"
    assert cost_table() in page
    assert size_table() in page
