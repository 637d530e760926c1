"""A lease: the object in S3 that says that somebody wants a cluster, and for how long.

Whoever waits for the cluster renews it. When nobody does, the watchdog ends the cluster: it needs
neither the DAG nor its database, only tags and leases. A lease's age is told by S3's own clock (how
long before the answer it was written), so that no machine's wrong clock ends or keeps a cluster.

Removals, which need no cluster, hold one while they write: erasures refuse to run beside a lease.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fruits.errors import FruitsError, MissingObjectError
from fruits.objects import list_uris, read_json_and_age, write_json

ENDED = ".ended"


class LeaseError(FruitsError):
    """A lease cannot be read; field: uri."""

    uri: str


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


def lease_uri(lake: str, token: str, generation: int) -> str:
    """Return where the lease is kept: each generation's by itself, so that no other is written."""
    return f"{lake}/leases/{token}.{generation}.json"


def read_lease(lake: str, token: str) -> Lease | None:
    """Return the lease of the newest generation of *token*, or None if there never was one.

    LeaseError if what is there is no lease.
    """
    generations = _generations(f"{lake}/leases/{token}.").get(token)
    return _read(lake, token, generations) if generations else None


def lease_or_why(lake: str, token: str) -> tuple[Lease | None, str]:
    """Return the lease, if there is one, and why it cannot be read, if it cannot."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return read_lease(lake, token), ""
    except (BotoCoreError, ClientError, FruitsError, ValueError) as error:
        return None, f"{type(error).__name__} {error}"


def live_tokens(lake: str) -> list[str]:
    """Return the tokens whose lease is not over: their runs are in progress."""
    found = _generations(f"{lake}/leases/").items()
    leases = [_read(lake, token, generations) for token, generations in found]
    return [lease.token for lease in leases if lease and not lease.is_over]


def grant_lease(lake: str, lease: Lease) -> None:
    """Write the *lease* of a new generation of its token, which takes the place of older ones."""
    content: dict[str, Any] = {
        "token": lease.token,
        "generation": lease.generation,
        "minutes": lease.minutes,
        "worst_case": lease.worst_case,
        "currency": lease.currency,
    }
    write_json(lease_uri(lake, lease.token, lease.generation), content)


def renew_lease(lake: str, token: str) -> None:
    """Let the lease of *token* begin again; one that was ended, or never granted, stays so."""
    lease = read_lease(lake, token)
    if lease and not lease.ended:
        grant_lease(lake, lease)  # whatever happened meanwhile is said by another object


def end_lease(lake: str, token: str) -> None:
    """Let the lease of *token* end now: a cluster that is still alive is nobody's."""
    if lease := read_lease(lake, token):
        write_json(_end_uri(lake, token, lease.generation), {})


@contextmanager
def held_lease(lake: str, token: str, minutes: float) -> Iterator[None]:
    """Hold a lease of *token*, which waits for no cluster: whoever looks sees a run in progress."""
    former = read_lease(lake, token)
    generation = former.generation + 1 if former else 1
    grant_lease(lake, Lease(token, generation, minutes, worst_case=0.0, currency=""))
    try:
        yield
    finally:
        end_lease(lake, token)


def _end_uri(lake: str, token: str, generation: int) -> str:
    """Return where it is said that the generation was ended, which no renewal writes."""
    return f"{lake}/leases/{token}.{generation}{ENDED}"


def _generations(prefix: str) -> dict[str, dict[int, bool]]:
    """Return the generations of each token that has a lease, and whether each was ended."""
    names = {uri.rpartition("/")[2] for uri in list_uris(prefix)}
    found: dict[str, dict[int, bool]] = {}
    for name in names:
        token, generation, kind = [*name.rsplit(".", 2), "", ""][:3]
        if kind == "json" and generation.isdecimal():
            is_ended = f"{token}.{generation}{ENDED}" in names
            found.setdefault(token, {})[int(generation)] = is_ended
    return found


def _read(lake: str, token: str, generations: Mapping[int, bool]) -> Lease | None:
    newest = max(generations)
    uri = lease_uri(lake, token, newest)
    try:
        content, age = read_json_and_age(uri)
        lease = Lease(**content, ended=generations[newest], age=age)
        timedelta(minutes=lease.minutes)
    except MissingObjectError:  # it was swept meanwhile
        return None
    except (TypeError, ValueError, OverflowError) as error:
        raise LeaseError(
            f"{uri} is no lease: {error}.",
            "Somebody wrote it by hand. Delete it if its cluster has ended.",
            uri=uri,
        ) from error
    return lease
