"""The watchdog's judgement on any set of clusters: records in, verdicts out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fruits.leases import Lease
from fruits.verdicts import GRACE, Sighting, judge

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
CAP = timedelta(minutes=60)


def lease(minutes_left: float) -> Lease:
    """Return a lease that is over in some minutes, or was over some minutes ago."""
    return Lease("token", 1, 30, 1.0, "USD", age=timedelta(minutes=30 - minutes_left))


ENDED = Lease("token", 1, 30, 1.0, "USD", ended=True)


def seen(age: float = 20, cluster_id: str = "j-1", **changes: Any) -> Sighting:
    """Return a wanted cluster of *age* minutes, with *changes*."""
    old = timedelta(minutes=age)
    known: dict[str, Any] = {"token": "token", "cap": CAP, "lease": lease(10)}
    return Sighting(cluster_id=cluster_id, created=NOW - old, age=old, **known | changes)


def age_key(one: Sighting) -> tuple[datetime, str]:
    """Return what orders clusters by age: of two of the same second, the later id counts."""
    return one.created, one.cluster_id


AGES = st.floats(0, 300)
SIGHTINGS = st.lists(
    st.builds(
        seen,
        age=AGES,
        cluster_id=st.uuids().map(str),
        token=st.sampled_from("abc"),
        lease=st.none() | st.floats(-60, 60).map(lease),
        unreadable=st.sampled_from(["", "SlowDown"]),
    ),
    max_size=8,
    unique_by=lambda one: one.cluster_id,
)


def test_a_wanted_cluster_stays() -> None:
    """A lease that runs, an age below the cap, the only one of its token: no reason to end."""
    assert not judge([seen()])[0].ends


@pytest.mark.parametrize(
    ("sighting", "reason"),
    [
        (seen(lease=lease(0)), "its lease of 30 min was renewed 30 min ago"),
        (seen(lease=ENDED), "its lease was ended"),
        (seen(lease=None), "it has no lease, 20 min after its creation"),
        (seen(age=60), "it is 60 min old, its cap is 60 min"),
        (seen(age=60, lease=None, unreadable="S3"), "it is 60 min old, its cap is 60 min"),
    ],
)
def test_each_reason_ends_a_cluster_by_itself(sighting: Sighting, reason: str) -> None:
    """A lease that is over or missing and a cap that is reached each suffice, and are named."""
    assert judge([sighting])[0].reasons == (reason,)


def test_a_missing_lease_has_a_grace() -> None:
    """A cluster whose lease cannot be seen yet is not ended in its first minutes."""
    age = GRACE.total_seconds() / 60 - 1

    assert not judge([seen(age=age, lease=None)])[0].ends


def test_an_unreadable_lease_ends_nothing() -> None:
    """Trouble with S3 must not end a cluster that somebody may want."""
    assert not judge([seen(lease=None, unreadable="SlowDown")])[0].ends


def test_the_newest_of_a_token_stays() -> None:
    """Of two clusters of one token the older goes; those of other tokens do not count."""
    older, newer = seen(21, "j-older"), seen(20, "j-newer")
    other = seen(19, "j-other", token="another")

    verdicts = judge([newer, older, other])

    assert [verdict.ends for verdict in verdicts] == [False, True, False]
    assert verdicts[1].reasons == ("j-newer is the newest cluster of its token",)


@given(SIGHTINGS)
def test_exactly_the_unwanted_go(sightings: list[Sighting]) -> None:
    """The rules hold for every mixture of clusters, whatever their order."""
    verdicts = judge(sightings)

    assert [verdict.cluster_id for verdict in verdicts] == [s.cluster_id for s in sightings]
    for one, verdict in zip(sightings, verdicts, strict=True):
        over = one.lease is not None and one.lease.age >= timedelta(minutes=30)
        lost = one.lease is None and not one.unreadable and one.age >= GRACE
        younger = any(s.token == one.token and age_key(s) > age_key(one) for s in sightings)
        assert verdict.ends == (over or lost or one.age >= one.cap or younger)


@given(SIGHTINGS)
def test_no_token_keeps_two(sightings: list[Sighting]) -> None:
    """At most one cluster of a token survives a look."""
    kept = [verdict.token for verdict in judge(sightings) if not verdict.ends]

    assert len(kept) == len(set(kept))
