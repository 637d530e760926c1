"""A lease: the object in S3 that says until when somebody wants a cluster.

Whoever waits for the cluster renews it. When nobody does, the watchdog ends the cluster: it needs
neither the DAG nor its database, only tags and leases.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from fruits.errors import MissingObjectError
from fruits.objects import read_json, write_json


@dataclass(frozen=True)
class Lease:
    """One run's claim on its cluster.

    *generation* counts the clusters that the run was allowed, each with its *worst_case* cost;
    *until* is when the claim ends unless it is renewed by *minutes*.
    """

    token: str
    generation: int
    until: datetime
    minutes: int
    worst_case: float
    currency: str

    def is_over(self, now: datetime) -> bool:
        """Say whether nobody wants the cluster any more."""
        return now >= self.until


def lease_uri(lake: str, token: str) -> str:
    """Return where the lease of *token* is kept."""
    return f"{lake}/leases/{token}.json"


def read_lease(lake: str, token: str) -> Lease | None:
    """Return the lease of *token*, or None if there never was one."""
    try:
        content = read_json(lease_uri(lake, token))
    except MissingObjectError:
        return None
    return Lease(**content | {"until": datetime.fromisoformat(content["until"])})


def grant_lease(
    lake: str,
    token: str,
    *,
    minutes: int,
    worst_case: float,
    currency: str,
    now: datetime | None = None,
) -> Lease:
    """Write the lease of the next generation of *token* and return it."""
    previous = read_lease(lake, token)
    generation = previous.generation + 1 if previous else 1
    until = (now or datetime.now(UTC)) + timedelta(minutes=minutes)
    lease = Lease(token, generation, until, minutes, worst_case, currency)
    _write(lake, lease)
    return lease


def renew_lease(lake: str, token: str, now: datetime | None = None) -> None:
    """Extend the lease of *token* by its minutes from *now*; without one there is nothing to do."""
    if lease := read_lease(lake, token):
        now = now or datetime.now(UTC)
        _write(lake, replace(lease, until=now + timedelta(minutes=lease.minutes)))


def end_lease(lake: str, token: str, now: datetime | None = None) -> None:
    """Let the lease of *token* end now: a cluster that is still alive is nobody's."""
    if lease := read_lease(lake, token):
        _write(lake, replace(lease, until=now or datetime.now(UTC)))


def _write(lake: str, lease: Lease) -> None:
    content = asdict(lease) | {"until": lease.until.isoformat()}
    write_json(lease_uri(lake, lease.token), content)
