"""Batch ids and places: the same on every retry, different for every attempt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from fruits.batches import Batch, batch_id

LAKE = "s3://lake"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_retry_finds_the_same_batch() -> None:
    """The id depends on the run alone, in whatever time zone it is given."""
    elsewhere = NOON.astimezone(timezone(timedelta(hours=9)))

    assert batch_id(NOON, "scheduled", LAKE) == batch_id(elsewhere, "scheduled", LAKE)
    assert batch_id(NOON, "scheduled", LAKE).startswith("20261121T120000-")


def test_runs_of_the_same_second_are_different_batches() -> None:
    """Two manual runs in one second do not write over each other."""
    assert batch_id(NOON, "manual-1", LAKE) != batch_id(NOON, "manual-2", LAKE)


def test_two_airflows_of_an_account_have_different_batches() -> None:
    """Their nightly runs have the same id; neither may take the other's cluster for its own."""
    night = "scheduled__2026-11-21T02:00:00+00:00"

    assert batch_id(NOON, night, LAKE) != batch_id(NOON, night, "s3://another-lake")


def test_ids_are_safe_in_uris_tags_and_file_names() -> None:
    """A run id may hold anything; the batch id holds letters, digits and a dash."""
    assert batch_id(NOON, "manual__2026-11-21T12:00:00+00:00 é/%", LAKE).replace("-", "").isalnum()


def test_attempts_share_no_folder() -> None:
    """What one attempt wrote is never written again by another."""
    batch = Batch("s3://lake", "b")
    attempts = [batch.numbered(1, 1), batch.numbered(1, 2), batch.numbered(2, 1)]

    assert [attempt.name for attempt in attempts] == ["1.1", "1.2", "2.1"]
    assert len({attempt.work("featurize") for attempt in attempts}) == 3
    assert len({attempt.data("features") for attempt in attempts}) == 3
    assert len({attempt.model for attempt in attempts}) == 3
