"""Leases: granted once a generation, renewed while somebody waits, over when nobody does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fruits.leases import Lease, end_lease, grant_lease, lease_uri, read_lease, renew_lease
from fruits.objects import exists
from local_cloud.s3 import ObjectStorage

LAKE = "s3://fruits-lake"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def grant(now: datetime = NOON) -> Lease:
    """Grant half an hour."""
    return grant_lease(LAKE, "token", minutes=30, worst_case=1.25, currency="USD", now=now)


def test_a_granted_lease_is_read_back(storage: ObjectStorage) -> None:
    """What was written is what a process with another memory reads."""
    granted = grant()

    assert read_lease(LAKE, "token") == granted
    assert (granted.generation, granted.until) == (1, NOON + 30 * MINUTE)


def test_every_grant_is_a_generation(storage: ObjectStorage) -> None:
    """A task that is cleared promises another cluster: the count of promises goes up."""
    assert [grant().generation, grant().generation] == [1, 2]


def test_renewing_extends_from_now(storage: ObjectStorage) -> None:
    """A renewal gives the lease its full length again, and changes nothing else."""
    granted = grant()

    renew_lease(LAKE, "token", NOON + 20 * MINUTE)
    renewed = read_lease(LAKE, "token")

    assert renewed is not None
    assert renewed.until == NOON + 50 * MINUTE
    assert (renewed.generation, renewed.worst_case) == (granted.generation, 1.25)


def test_an_ended_lease_is_over_at_once(storage: ObjectStorage) -> None:
    """After a run's end its cluster is nobody's."""
    grant()

    end_lease(LAKE, "token", NOON + MINUTE)
    ended = read_lease(LAKE, "token")

    assert ended is not None
    assert ended.is_over(NOON + MINUTE)


def test_what_was_never_granted_is_not_made_by_a_renewal(storage: ObjectStorage) -> None:
    """Only a grant, which checks the caps, makes a lease."""
    renew_lease(LAKE, "unknown")
    end_lease(LAKE, "unknown")

    assert read_lease(LAKE, "unknown") is None
    assert not exists(lease_uri(LAKE, "unknown"))


@given(st.timedeltas(-timedelta(days=2), timedelta(days=2)))
def test_a_lease_is_over_from_its_end_on(distance: timedelta) -> None:
    """Before its end a lease holds, at its end and later it does not."""
    held = Lease("token", 1, NOON, 30, 1.0, "USD")

    assert held.is_over(NOON + distance) == (distance >= timedelta(0))
