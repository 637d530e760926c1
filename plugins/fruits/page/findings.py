"""What the watchdog ended in the last week, from its findings in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fruits.objects import list_uris, read_json

SHOWN = 3
DAYS = 7
# With it begins the name of each object.
TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Finding:
    """One cluster that the watchdog ended, and its reasons."""

    found_at: datetime
    cluster_id: str
    reasons: str


def recent_findings(lake: str, now: datetime) -> tuple[Finding, ...]:
    """Return what the last three looks that ended something found, the newest first."""
    uris = list_uris(f"{lake}/ledger/findings/", after=f"{now - timedelta(days=DAYS):{TIME}}")
    times = {uri: found_at for uri in uris if (found_at := _found_at(uri))}
    last = list(times.items())[-SHOWN:]
    return tuple(finding for uri, found_at in reversed(last) for finding in _read(uri, found_at))


def _found_at(uri: str) -> datetime | None:
    """Return when the look was that wrote it, by its name; None if that is not of a look."""
    time, separator, _ = uri.rpartition("/")[2].partition("-")
    try:
        return datetime.strptime(time, TIME).replace(tzinfo=UTC) if separator else None
    except ValueError:
        return None


def _read(uri: str, found_at: datetime) -> list[Finding]:
    look = read_json(uri)
    return [
        Finding(found_at, one["cluster_id"], "; ".join(one["reasons"]))
        for one in look["findings"]
        if one["cluster_id"] in look["terminated"]  # what could not be ended is alive
    ]
