"""The month's ledger: one object for each cluster that was promised, with what it cost in the end.

An entry is written before its cluster may exist and charges the worst case; once the clusters of
its generation have ended it is settled and charges what they cost. So every generation of a token
is charged until it is known what it really cost. The sum of a month's entries is held against the
month's cap.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from fruits.errors import FruitsError, MissingObjectError
from fruits.objects import delete, list_uris, read_json, write_json

# As many as botocore keeps connections.
READERS = 10


class MonthCapError(FruitsError):
    """A cluster may take the month above its cap; fields: month, charged, worst_case, cap."""

    month: str
    charged: float
    worst_case: float
    cap: float


class UnreadableEntryError(FruitsError):
    """An entry of the ledger is not what this package writes; field: uri."""

    uri: str


@dataclass(frozen=True)
class Charge:
    """One cluster that has ended: how long it lived (s), and what its instances cost."""

    id: str
    seconds: float
    cost: float


@dataclass(frozen=True)
class Entry:
    """The promise for one generation of a token, and once it is settled what it cost.

    Amounts are in *currency*; *spent* is None until the entry is settled.
    """

    token: str
    generation: int
    worst_case: float
    currency: str
    reserved_at: datetime
    spent: float | None = None
    clusters: tuple[Charge, ...] = ()
    settled_at: datetime | None = None
    settled_by: str | None = None

    @property
    def charge(self) -> float:
        """What the entry counts for in its month."""
        return self.worst_case if self.spent is None else self.spent

    @property
    def month(self) -> str:
        """The month that is charged, such as ``2026-11``."""
        return month_of(self.reserved_at)


def month_of(moment: datetime) -> str:
    """Return the calendar month (UTC) of *moment*, as the ledger names it."""
    return f"{moment:%Y-%m}"


def entry_uri(lake: str, entry: Entry) -> str:
    """Return where the entry is kept."""
    return f"{lake}/ledger/{entry.month}/{entry.token}.{entry.generation}.json"


def month_entries(
    lake: str, month: str, token: str | None = None, unreadable: list[str] | None = None
) -> list[Entry]:
    """Return the entries of *month*, or those of *token* alone, in the order of their keys.

    Raises UnreadableEntryError, or adds why to *unreadable* and leaves the entry out.
    """

    def read(uri: str) -> Entry | None:
        try:
            return read_entry(uri)
        except UnreadableEntryError as error:
            if unreadable is None:
                raise
            unreadable.append(str(error))
            return None

    uris = list_uris(f"{month_prefix(lake, month)}{f'{token}.' if token else ''}")
    with ThreadPoolExecutor(READERS) as pool:
        return [entry for entry in pool.map(read, uris) if entry]


def month_prefix(lake: str, month: str) -> str:
    """Return what the URIs of all entries of *month* begin with."""
    return f"{lake}/ledger/{month}/"


def recent_entries(
    lake: str, now: datetime, token: str | None = None, unreadable: list[str] | None = None
) -> list[Entry]:
    """Return the entries of this month and of the one before it, those of *token* or all.

    Raises UnreadableEntryError, or adds why to *unreadable* and leaves the entry out.
    """
    before = now.replace(day=1) - timedelta(days=1)
    return [
        entry
        for month in (month_of(before), month_of(now))
        for entry in month_entries(lake, month, token, unreadable)
    ]


def month_so_far(lake: str, month: str) -> float:
    """Return what the clusters of *month* cost: those not settled yet, at the worst."""
    return sum(entry.charge for entry in month_entries(lake, month))


def reserve(lake: str, entry: Entry, month_cap: float) -> float:
    """Write the new *entry*, and return what its month comes to with it.

    The entry is written first and the sum taken then: of two runs that reserve at once, both may be
    refused, but never both let through, because each sees the other's entry.

    Raises MonthCapError if the month would come above *month_cap*; the entry is gone then.
    """
    uri = entry_uri(lake, entry)
    _write(lake, entry)
    try:
        so_far = month_so_far(lake, entry.month)
        if so_far > month_cap:
            raise _above_cap(entry, so_far, month_cap)
    except BaseException:
        delete(uri)
        raise
    return so_far


def settle(
    lake: str, entry: Entry, charges: Iterable[Charge], settled_by: str, now: datetime
) -> Entry:
    """Write down what the entry's clusters cost, beside any that it was charged for before."""
    known = {charge.id: charge for charge in (*entry.clusters, *charges)}
    settled = replace(
        entry,
        spent=round(sum(charge.cost for charge in known.values()), 4),
        clusters=tuple(known.values()),
        settled_at=now,
        settled_by=settled_by,
    )
    _write(lake, settled)
    return settled


def reopen(lake: str, entry: Entry) -> None:
    """Charge the worst case again: a cluster came to be after the entry was settled."""
    _write(lake, replace(entry, spent=None, settled_at=None, settled_by=None))


def _above_cap(entry: Entry, so_far: float, cap: float) -> MonthCapError:
    charged = so_far - entry.worst_case
    return MonthCapError(
        f"The clusters of {entry.month} come to {charged:.2f} {entry.currency} so far, those not "
        f"settled yet at the worst, and this one could cost {entry.worst_case:.2f}: {so_far:.2f} "
        f"in all, above FRUITS_MONTH_CAP_MONEY ({cap:.2f}).",
        "Take fewer or smaller workers or fewer minutes, raise the month's cap, or wait for the "
        "next month.",
        month=entry.month,
        charged=charged,
        worst_case=entry.worst_case,
        cap=cap,
    )


def read_entry(uri: str) -> Entry | None:
    """Return the entry, or None if a run that was refused has just removed it.

    Raises UnreadableEntryError.
    """
    try:
        return _entry(read_json(uri))
    except MissingObjectError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableEntryError(
            f"The ledger's entry {uri} cannot be read ({error}), so no month's cap could hold.",
            "Repair it, or delete it if no cluster was ever made for it.",
            uri=uri,
        ) from error


def _entry(content: dict[str, Any]) -> Entry:
    settled_at = content["settled_at"]
    return Entry(
        **content
        | {
            "reserved_at": datetime.fromisoformat(content["reserved_at"]),
            "settled_at": datetime.fromisoformat(settled_at) if settled_at else None,
            "clusters": tuple(Charge(**charge) for charge in content["clusters"]),
        }
    )


def _write(lake: str, entry: Entry) -> None:
    settled_at = entry.settled_at.isoformat() if entry.settled_at else None
    times = {"reserved_at": entry.reserved_at.isoformat(), "settled_at": settled_at}
    write_json(entry_uri(lake, entry), asdict(entry) | times)
