"""How pages word numbers and times, and what becomes of text that somebody else chose."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fruits.wording import data_size, duration, money, plural, visible, when


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Pomme verte/é 東京 🍏.jpg", "Pomme verte/é 東京 🍏.jpg"),
        ("two\nlines\t", "two\\nlines\\t"),
        ("gpj.\u202egnp", "gpj.\\u202egnp"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u2028b", "a\\u2028b"),
        (None, ""),
    ],
)
def test_what_cannot_be_seen_is_shown(text: str | None, shown: str) -> None:
    """A key that hides, turns or breaks its text is shown as what it is."""
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-120, "0 s"),
        (0.4, "0 s"),
        (48, "48 s"),
        (200, "3 min 20 s"),
        (720, "12 min"),
        (3600, "1 h"),
        (7500, "2 h 05 min"),
        (400_000, "4 days"),
        (None, "–"),  # noqa: RUF001  (the dash that is meant)
    ],
)
def test_durations_are_said_as_people_do(seconds: float | None, said: str) -> None:
    """Two units at the most, and none that says nothing."""
    assert duration(seconds) == said


def test_what_is_not_known_is_not_zero() -> None:
    """A cost that is not known yet is never shown as 0.00."""
    assert money(None, "USD") == "not known yet"
    assert money(0.0, "USD") == "0.00 USD"
    assert money(1234.5) == "1,234.50"


def test_units_and_nouns() -> None:
    """Sizes have few digits, nouns their number, times their zone."""
    assert [data_size(size) for size in (0, 512, 1536, 250_000, 3.2e9)] == [
        "0 B",
        "512 B",
        "1.5 kB",
        "250 kB",
        "3.2 GB",
    ]
    assert [plural(n, "batch", "batches") for n in (0, 1, 3000)] == [
        "0 batches",
        "1 batch",
        "3,000 batches",
    ]
    assert when(datetime(2026, 11, 1, 3, 5, tzinfo=UTC)) == "1 Nov 2026, 03:05 UTC"
