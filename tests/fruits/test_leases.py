"""Leases: granted once a generation, renewed while somebody waits, over when nobody does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fruits import objects
from fruits.leases import Lease, end_lease, lease_uri, live_tokens, read_lease, renew_lease
from fruits.objects import list_uris, read_json
from local_cloud.s3 import ObjectStorage
from tests.fruits.lease_support import LAKE, age_lease, grant, jump_clock

SECONDS = timedelta(seconds=20)


def age() -> timedelta:
    """Return the age of the token's lease."""
    lease = read_lease(LAKE, "token")
    assert lease
    return lease.age


def renew_late(
    monkeypatch: pytest.MonkeyPatch, read: Lease, meanwhile: Callable[[], object]
) -> None:
    """Renew the token's lease: what is *read* of it is old by the time that it is written."""

    def read_and_wait(_lake: str, _token: str) -> Lease:
        monkeypatch.undo()
        meanwhile()
        return read

    monkeypatch.setattr("fruits.leases.read_lease", read_and_wait)
    renew_lease(LAKE, "token")


def test_a_granted_lease_is_read_back(storage: ObjectStorage) -> None:
    """What was written is what a process with another memory reads, new as it is."""
    granted = grant()

    assert read_lease(LAKE, "token") == granted
    assert age() < SECONDS


def test_the_object_says_what_was_agreed(storage: ObjectStorage) -> None:
    """Other programs read leases too: the object has these fields, and no time in it."""
    grant()

    assert read_json(lease_uri(LAKE, "token", 1)) == {
        "token": "token",
        "generation": 1,
        "minutes": 30,
        "worst_case": 1.25,
        "currency": "USD",
    }


def test_renewing_begins_it_again(storage: ObjectStorage) -> None:
    """A renewal gives the lease its full length again, and changes nothing else."""
    granted = grant()
    age_lease(storage.folder / "fruits-lake", "token", 20)

    renew_lease(LAKE, "token")

    assert read_lease(LAKE, "token") == granted
    assert age() < SECONDS


def test_an_ended_lease_is_over_at_once(storage: ObjectStorage) -> None:
    """After a run's end its cluster is nobody's."""
    grant()

    end_lease(LAKE, "token")
    ended = read_lease(LAKE, "token")

    assert ended
    assert ended.is_over


def test_an_ended_lease_cannot_be_renewed(storage: ObjectStorage) -> None:
    """A waiting task that outlives its run does not bring its cluster back."""
    grant()
    end_lease(LAKE, "token")

    renew_lease(LAKE, "token")
    lease = read_lease(LAKE, "token")

    assert lease
    assert lease.is_over


def test_an_end_in_the_middle_of_a_renewal_has_the_last_word(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that read the lease before it was ended, and writes it after, ends nothing else."""
    renew_late(monkeypatch, grant(), lambda: end_lease(LAKE, "token"))
    lease = read_lease(LAKE, "token")

    assert lease
    assert lease.is_over


def test_the_next_generation_has_a_lease_again(storage: ObjectStorage) -> None:
    """A run that is cleared gets a new claim, although its last one was ended."""
    grant()
    end_lease(LAKE, "token")

    grant(generation=2)
    renew_lease(LAKE, "token")
    lease = read_lease(LAKE, "token")

    assert lease
    assert (lease.generation, lease.is_over) == (2, False)


def test_what_was_never_granted_is_not_made_by_a_renewal(storage: ObjectStorage) -> None:
    """Only a grant, which checks the caps, makes a lease."""
    renew_lease(LAKE, "unknown")
    end_lease(LAKE, "unknown")

    assert read_lease(LAKE, "unknown") is None
    assert not list_uris(f"{LAKE}/leases/")


def test_an_older_generations_renewal_takes_nothing_from_the_newer(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was cleared while a task renewed: it read the old lease, and writes it afterwards."""
    renew_late(monkeypatch, grant(), lambda: grant(generation=2))
    lease = read_lease(LAKE, "token")

    assert lease
    assert lease.generation == 2


def test_a_token_that_begins_like_another_is_another(storage: ObjectStorage) -> None:
    """Nor does a generation of two digits come before one of one."""
    for generation in (9, 10):
        grant(generation=generation)
    grant("token.2")
    end_lease(LAKE, "token.2")
    lease = read_lease(LAKE, "token")

    assert lease
    assert (lease.generation, lease.ended) == (10, False)
    assert live_tokens(LAKE) == ["token"]
    assert read_lease(LAKE, "tok") is None


@pytest.mark.parametrize("wrong", [timedelta(days=3), timedelta(days=-3)])
def test_a_clock_that_jumps_neither_ends_nor_keeps_a_lease(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, wrong: timedelta
) -> None:
    """S3 says how old a lease is; what the clock of this machine shows does not matter."""
    grant()
    age_lease(storage.folder / "fruits-lake", "token", 10)
    jump_clock(monkeypatch, wrong)

    assert timedelta(minutes=9) < age() < timedelta(minutes=11)


def test_without_a_date_in_the_answer_this_clock_has_to_do() -> None:
    """An endpoint that sends no date is no reason to fail."""
    answer = {"ResponseMetadata": {"HTTPHeaders": {}}}

    assert abs(objects.answer_time(answer) - datetime.now(UTC)) < SECONDS


@given(st.floats(0.1, 240), st.timedeltas(timedelta(0), timedelta(days=2)))
def test_a_lease_is_over_when_its_minutes_are(minutes: float, old: timedelta) -> None:
    """Before its minutes have passed a lease holds, from then on it does not."""
    held = Lease("token", 1, minutes, 1.0, "USD", age=old)

    assert held.is_over == (old >= timedelta(minutes=minutes))
