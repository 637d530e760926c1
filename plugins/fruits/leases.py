"""A lease: the object in S3 that says that somebody wants a cluster, and for how long.

Whoever waits for the cluster renews it. When nobody does, the watchdog ends the cluster: it needs
neither the DAG nor its database, only tags and leases. A lease's age is told by S3's own clock (how
long before the answer it was written), so that no machine's wrong clock ends or keeps a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from fruits.errors import MissingObjectError
from fruits.objects import exists, list_uris, read_json_and_age, write_json


@dataclass(frozen=True)
class Lease:
    """One run's claim on its cluster.

    *generation* counts the clusters that the run was allowed, each with its *worst_case* cost; the
    claim is over *minutes* after it was last written, or when it was *ended*. *age* is how long ago
    that was when the lease was read.
    """

    token: str
    generation: int
    minutes: float
    worst_case: float
    currency: str
    ended: bool = False
    age: timedelta = field(default=timedelta(0), compare=False)

    @property
    def is_over(self) -> bool:
        """Whether nobody wants the cluster any more."""
        return self.ended or self.age >= timedelta(minutes=self.minutes)


def lease_uri(lake: str, token: str) -> str:
    """Return where the lease of *token* is kept."""
    return f"{lake}/leases/{token}.json"


def read_lease(lake: str, token: str) -> Lease | None:
    """Return the lease of *token*, or None if there never was one."""
    try:
        content, age = read_json_and_age(lease_uri(lake, token))
    except MissingObjectError:
        return None
    return Lease(**content, age=age)


def live_tokens(lake: str) -> list[str]:
    """Return the tokens whose lease is not over: their runs are in progress."""
    names = [uri.rpartition("/")[2] for uri in list_uris(f"{lake}/leases/")]
    tokens = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    leases = [read_lease(lake, token) for token in tokens]
    return [lease.token for lease in leases if lease and not lease.is_over]


def grant_lease(lake: str, lease: Lease) -> None:
    """Write the *lease* of a new generation of its token, in place of the one before."""
    _write(lake, lease)


def renew_lease(lake: str, token: str) -> None:
    """Let the lease of *token* begin again; one that was ended, or never granted, stays so."""
    lease = read_lease(lake, token)
    if lease and not lease.ended:
        _write(lake, lease)
        if exists(_end_uri(lake, lease)):  # it was ended after it was read: that has the last word
            _write(lake, replace(lease, ended=True))


def end_lease(lake: str, token: str) -> None:
    """Let the lease of *token* end now: a cluster that is still alive is nobody's."""
    if lease := read_lease(lake, token):
        write_json(_end_uri(lake, lease), {})  # first: a renewal under way looks for it afterwards
        _write(lake, replace(lease, ended=True))


def _end_uri(lake: str, lease: Lease) -> str:
    """Return where it is said that the generation was ended, which no renewal writes."""
    return f"{lake}/leases/{lease.token}.{lease.generation}.ended"


def _write(lake: str, lease: Lease) -> None:
    content: dict[str, Any] = {
        "token": lease.token,
        "generation": lease.generation,
        "minutes": lease.minutes,
        "worst_case": lease.worst_case,
        "currency": lease.currency,
        "ended": lease.ended,
    }
    write_json(lease_uri(lake, lease.token), content)
