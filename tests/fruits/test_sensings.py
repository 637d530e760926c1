"""The last sensing: what waits in the bucket, without a listing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fruits.page.past import Past, PastBatch
from fruits.page.waiting import waiting
from fruits.sensings import Sensing, read_sensing, remember_sensing
from local_cloud.s3 import ObjectStorage

LAKE = "s3://fruits-lake"
COUNTS = {
    "listed": 20,
    "unchanged": 5,
    "added": 12,
    "replaced": 2,
    "deleted": 1,
    "ignored": 3,
    "deferred": 3,
}


def found(batch: str) -> dict[str, Any]:
    """Return what sensing returns."""
    return {"batch": batch, "feature_model": "M-1", "counts": COUNTS, "added_bytes": 99}


def sensed() -> Sensing | None:
    """Return the last sensing after one of batch `now`."""
    remember_sensing(LAKE, found("now"), "s3://fruits-images/", "manual__1")
    return read_sensing(LAKE)


def past(**row: Any) -> Past:
    """Return a past whose only batch is `now`, with that row."""
    known = {"batch": "now", "outcome": "success", "features": 0, "quarantined": 0, "changed": 0}
    return Past((PastBatch(known | row, {}),), 1)


def test_nobody_looked_yet(storage: ObjectStorage) -> None:
    """Before the first run there is no sensing, and nothing is known to wait."""
    assert read_sensing(LAKE) is None
    assert waiting(None, Past((), 0)) is None


def test_the_last_look_counts(storage: ObjectStorage) -> None:
    """Each look is written over the one before, with its time by the clock of S3."""
    remember_sensing(LAKE, found("before"), "s3://fruits-images/", None)

    sensing = sensed()

    assert sensing is not None
    assert (sensing.batch, sensing.run_id) == ("now", "manual__1")
    assert sensing.counts.added == 12
    assert isinstance(sensing.sensed_at, datetime)


def test_what_waits_is_what_was_found_less_what_became_of_it(storage: ObjectStorage) -> None:
    """While its batch works everything waits; once committed, only what was left for later."""
    sensing, nothing = sensed(), Past((), 0)

    assert waits(sensing, nothing) == 15
    assert waits(sensing, past(features=10, quarantined=2)) == 3
    assert waits(sensing, past(features=10, changed=2)) == 5
    assert waits(sensing, past(outcome="failed")) == 15
    # Features were committed, then PCA failed: these images do not wait.
    assert waits(sensing, past(outcome="failed", features=12)) == 3


def waits(sensing: Sensing | None, of: Past) -> int:
    """Return the number of images that wait."""
    known = waiting(sensing, of)
    assert known
    return known.images
