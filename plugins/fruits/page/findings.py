"""What the watchdog ended in the last week, from its findings in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fruits.objects import list_uris, read_json

SHOWN = 3
DAYS = 7


@dataclass(frozen=True)
class Finding:
    """One cluster that the watchdog ended, and its reasons."""

    found_at: datetime
    cluster_id: str
    reasons: str


def recent_findings(lake: str, now: datetime) -> tuple[Finding, ...]:
    """Return what the last three looks that ended something found, the newest first."""
    since = f"{now - timedelta(days=DAYS):%Y%m%dT%H%M%SZ}"
    uris = list_uris(f"{lake}/ledger/findings/", after=since)[-SHOWN:]
    return tuple(finding for uri in reversed(uris) for finding in _read(uri))


def _read(uri: str) -> list[Finding]:
    time = uri.rpartition("/")[2].partition("-")[0]
    found_at = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return [
        Finding(found_at, one["cluster_id"], "; ".join(one["reasons"]))
        for one in read_json(uri)["findings"]
    ]
