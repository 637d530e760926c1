"""Batch ids and places: the same on every retry, different for every attempt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from fruits.batches import Batch, batch_id

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_retry_finds_the_same_batch() -> None:
    """The id depends on the run alone, in whatever time zone it is given."""
    elsewhere = NOON.astimezone(timezone(timedelta(hours=9)))

    assert batch_id(NOON, "scheduled") == batch_id(elsewhere, "scheduled")
    assert batch_id(NOON, "scheduled").startswith("20261121T120000-")


def test_runs_of_the_same_second_are_different_batches() -> None:
    """Two manual runs in one second do not write over each other."""
    assert batch_id(NOON, "manual-1") != batch_id(NOON, "manual-2")


def test_ids_are_safe_in_uris_tags_and_file_names() -> None:
    """A run id may hold anything; the batch id holds letters, digits and a dash."""
    assert batch_id(NOON, "manual__2026-11-21T12:00:00+00:00 é/%").replace("-", "").isalnum()


def test_attempts_share_no_folder() -> None:
    """What one attempt wrote is never written again by another."""
    batch = Batch("s3://lake", "b")
    attempts = [batch.numbered(1, 1), batch.numbered(1, 2), batch.numbered(2, 1)]

    assert [attempt.name for attempt in attempts] == ["1.1", "1.2", "2.1"]
    assert len({attempt.work("featurize") for attempt in attempts}) == 3
    assert len({attempt.data("features") for attempt in attempts}) == 3
    assert len({attempt.model for attempt in attempts}) == 3
