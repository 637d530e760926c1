"""Which of the clusters that the watchdog saw are to end, and why: records in, verdicts out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fruits.leases import Lease

# A lease is written before its cluster is created: one that is missing for so long was lost.
GRACE = timedelta(minutes=15)


@dataclass(frozen=True)
class Sighting:
    """A live cluster with our tag, as it was seen.

    *age* is EMR's time of the look less EMR's time of its creation; *lake* is where its run keeps
    its lease; *unreadable* says why the lease is unknown.
    """

    cluster_id: str
    token: str
    created: datetime
    age: timedelta
    cap: timedelta
    generation: str = ""
    lake: str = ""
    lease: Lease | None = None
    unreadable: str = ""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a cluster: it ends if there is a reason to."""

    cluster_id: str
    token: str
    reasons: tuple[str, ...]

    @property
    def ends(self) -> bool:
        """Whether the cluster is to be terminated."""
        return bool(self.reasons)


def judge(sightings: Sequence[Sighting]) -> list[Verdict]:
    """Return a verdict on each cluster, in the order given.

    The newest cluster of a token stays: it is the one that `find_cluster` returns to the run.
    """
    newest = {
        seen.token: seen.cluster_id
        for seen in sorted(sightings, key=lambda seen: (seen.created, seen.cluster_id))
    }
    return [
        Verdict(seen.cluster_id, seen.token, tuple(_reasons(seen, newest[seen.token])))
        for seen in sightings
    ]


def _reasons(seen: Sighting, newest: str) -> Iterable[str]:
    if seen.lease and seen.lease.ended:
        yield "its lease was ended"
    elif seen.lease and seen.lease.is_over:
        yield f"its lease of {seen.lease.minutes:g} min was renewed {_minutes(seen.lease.age)} ago"
    if not seen.lease and not seen.unreadable and seen.age >= GRACE:
        yield f"it has no lease, {_minutes(seen.age)} after its creation"
    if seen.age >= seen.cap:
        yield f"it is {_minutes(seen.age)} old, its cap is {_minutes(seen.cap)}"
    if seen.cluster_id != newest:
        yield f"{newest} is the newest cluster of its token"


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:.0f} min"
