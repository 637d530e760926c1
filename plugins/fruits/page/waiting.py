"""What waits in the bucket, as far as the last look of a run tells: nothing is listed here."""

from __future__ import annotations

from dataclasses import dataclass

from fruits.page.past import Past
from fruits.sensings import Sensing


@dataclass(frozen=True)
class Waiting:
    """How many *images* wait, and since which *sensing* that is known; *why* they do."""

    sensing: Sensing
    images: int
    why: str


def waiting(sensing: Sensing | None, past: Past) -> Waiting | None:
    """Return what waited when a run last looked, less what became of it; None before any look."""
    if sensing is None:
        return None
    counts, batch = sensing.counts, past.batch(sensing.batch)
    if batch is None:
        found = counts.added + counts.deferred
        return Waiting(sensing, found, "not committed yet" if found else "")
    if batch.row["features"] or batch.row["quarantined"] or batch.succeeded:
        left = counts.deferred + (batch.row["changed"] or 0)
        return Waiting(sensing, left, "left for the next run" if left else "")
    return Waiting(sensing, counts.added + counts.deferred, "the last batch failed")
