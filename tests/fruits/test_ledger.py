"""The ledger: every generation is charged until it is known what it cost, and the month holds."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from fruits.ledger import (
    Charge,
    Entry,
    MonthCapError,
    UnreadableEntryError,
    entry_uri,
    month_entries,
    month_so_far,
    recent_entries,
    reopen,
    reserve,
    settle,
)
from fruits.objects import exists, list_uris, read_json, write_bytes
from local_cloud.s3 import ObjectStorage

LAKE = "s3://fruits-lake"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MONTH = "2026-11"


def entry(token: str = "a", generation: int = 1, worst_case: float = 2.0, **more: object) -> Entry:
    """Return an entry of this month."""
    known = {"currency": "USD", "reserved_at": NOON} | more
    return Entry(token, generation, worst_case, **known)  # type: ignore[arg-type]


def test_a_reservation_is_charged_at_the_worst(storage: ObjectStorage) -> None:
    """What a cluster may cost counts from the moment it is promised."""
    first = reserve(LAKE, entry("a"), 100)
    second = reserve(LAKE, entry("b", worst_case=3.5), 100)

    assert (first, second, month_so_far(LAKE, MONTH)) == (2.0, 5.5, 5.5)


def test_every_generation_is_charged(storage: ObjectStorage) -> None:
    """A run that is cleared may make another cluster: the first one's promise stays."""
    reserve(LAKE, entry(generation=1), 100)
    reserve(LAKE, entry(generation=2), 100)

    assert month_so_far(LAKE, MONTH) == 4.0
    assert [one.generation for one in month_entries(LAKE, MONTH, "a")] == [1, 2]


def test_a_settled_entry_is_charged_what_it_cost(storage: ObjectStorage) -> None:
    """The promise is replaced by the costs of its clusters, which stay named."""
    reserve(LAKE, entry(), 100)

    settle(LAKE, entry(), [Charge("j-1", 60, 0.25), Charge("j-2", 30, 0.5)], "teardown", NOON)
    (settled,) = month_entries(LAKE, MONTH)

    assert (month_so_far(LAKE, MONTH), settled.settled_by) == (0.75, "teardown")
    assert [charge.id for charge in settled.clusters] == ["j-1", "j-2"]


def test_a_cluster_that_never_was_costs_nothing(storage: ObjectStorage) -> None:
    """A promise that nobody used is given back."""
    reserve(LAKE, entry(), 100)

    settle(LAKE, entry(), [], "teardown", NOON)

    assert month_so_far(LAKE, MONTH) == 0


def test_a_reopened_entry_is_charged_at_the_worst_again(storage: ObjectStorage) -> None:
    """A late cluster counts in full until it is settled beside the ones that were known."""
    settled = settle(LAKE, entry(), [Charge("j-1", 60, 0.25)], "teardown", NOON)

    reopen(LAKE, settled)
    open_again = month_so_far(LAKE, MONTH)
    (reopened,) = month_entries(LAKE, MONTH)
    settle(LAKE, reopened, [Charge("j-2", 60, 0.5)], "watchdog", NOON)

    assert (open_again, month_so_far(LAKE, MONTH)) == (2.0, 0.75)


def test_the_month_has_a_cap(storage: ObjectStorage) -> None:
    """What would exceed the month is refused in one line with its arithmetic, and not charged."""
    reserve(LAKE, entry("a", worst_case=99), 100)

    with pytest.raises(MonthCapError) as refused:
        reserve(LAKE, entry("b", worst_case=1.5), 100)

    assert "come to 99.00 USD" in str(refused.value)
    assert "could cost 1.50: 100.50 in all, above FRUITS_MONTH_CAP_MONEY (100.00)" in str(
        refused.value
    )
    assert "\n" not in str(refused.value)
    assert not exists(entry_uri(LAKE, entry("b")))


def test_a_cap_that_is_just_reached_holds(storage: ObjectStorage) -> None:
    """The cap is the most that may be spent, and may be spent."""
    reserve(LAKE, entry("a", worst_case=99), 100)

    assert reserve(LAKE, entry("b", worst_case=1), 100) == 100


def test_another_month_is_another_sum(storage: ObjectStorage) -> None:
    """On the first of a month the cap begins again, by UTC."""
    last = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    reserve(LAKE, entry("a", worst_case=99, reserved_at=last), 100)

    so_far = reserve(LAKE, entry("b", worst_case=99, reserved_at=last + timedelta(seconds=1)), 100)

    assert so_far == 99
    assert [one.token for one in recent_entries(LAKE, datetime(2026, 12, 31, tzinfo=UTC))] == [
        "a",
        "b",
    ]


def test_the_new_year_still_sees_december(storage: ObjectStorage) -> None:
    """The month before January is of the year before."""
    reserve(LAKE, entry(reserved_at=datetime(2026, 12, 31, tzinfo=UTC)), 100)

    assert len(recent_entries(LAKE, datetime(2027, 1, 1, tzinfo=UTC))) == 1


def test_two_runs_that_reserve_at_once_never_both_pass(storage: ObjectStorage) -> None:
    """Where only one fits, at most one gets through, however they interleave."""

    def attempt(token: str) -> bool:
        try:
            reserve(LAKE, entry(token, worst_case=60), 100)
        except MonthCapError:
            return False
        return True

    month_so_far(LAKE, MONTH)  # boto3's first client is to be made by one thread
    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(attempt, "abcdefgh"))

    assert sum(passed) <= 1
    assert month_so_far(LAKE, MONTH) == 60 * sum(passed)


def test_an_entry_that_cannot_be_read_stops_reservations(storage: ObjectStorage) -> None:
    """A sum with a hole proves nothing: the entry is named, and nothing is promised."""
    write_bytes(entry_uri(LAKE, entry("garbled")), b'{"token": 1}')

    with pytest.raises(UnreadableEntryError, match=r"garbled\.1\.json"):
        reserve(LAKE, entry("b"), 100)

    assert not exists(entry_uri(LAKE, entry("b")))


def test_a_token_is_not_taken_for_a_longer_one(storage: ObjectStorage) -> None:
    """Entries of a token are its own, although another token begins with its name."""
    reserve(LAKE, entry("a"), 100)
    reserve(LAKE, entry("ab"), 100)

    assert [one.token for one in month_entries(LAKE, MONTH, "a")] == ["a"]


def test_the_object_says_what_was_agreed(storage: ObjectStorage) -> None:
    """Other programs read the ledger too: the object is where and what it is said to be."""
    reserve(LAKE, entry(), 100)

    assert list_uris(f"{LAKE}/ledger/") == [f"{LAKE}/ledger/2026-11/a.1.json"]
    assert read_json(entry_uri(LAKE, entry())) == {
        "token": "a",
        "generation": 1,
        "worst_case": 2.0,
        "currency": "USD",
        "reserved_at": "2026-11-21T12:00:00+00:00",
        "spent": None,
        "clusters": [],
        "settled_at": None,
        "settled_by": None,
    }


def test_a_month_of_a_thousand_entries_is_summed_in_seconds(storage: ObjectStorage) -> None:
    """More entries than one page of a listing are all counted, and none waits for the other."""
    reserve(LAKE, entry("a", worst_case=0.01), 100)
    body = json.dumps(read_json(entry_uri(LAKE, entry("a"))))
    folder = storage.folder / "fruits-lake" / "ledger" / MONTH
    for number in range(1100):
        (folder / f"n{number}.1.json").write_text(body)
    time.sleep(0.2)  # until the local S3 sees what was written beside it

    started = time.monotonic()
    so_far = month_so_far(LAKE, MONTH)

    assert so_far == pytest.approx(11.01)
    assert time.monotonic() - started < 30
