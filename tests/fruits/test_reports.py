"""Reports: a run's facts in, one row of `runs` out, however far the run got."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fruits.objects import read_json
from fruits.reports import RunFacts, report_folder, run_row, write_report
from fruits.settings import Settings
from local_cloud.s3 import ObjectStorage

BATCH = "20261121T030000-1a2b3c4d"
THEN = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 3, 9, tzinfo=UTC)
COUNTS = {
    "listed": 100,
    "unchanged": 88,
    "added": 12,
    "replaced": 2,
    "deleted": 1,
    "ignored": 3,
    "deferred": 0,
}
ANSWERS: dict[str, Any] = {
    "sense_changes": {
        "counts": COUNTS,
        "feature_model": "MobileNetV2-1",
        "added_bytes": 72_000,
    },
    "commit_removals": {"features": 1, "quarantine": 0, "components": 1},
    "reserve_cluster": {
        "worst_case": 1.5,
        "currency": "USD",
        "sizing": {"workers": 1, "vcpus": 8, "seconds": 30.5, "amount": 0.2},
    },
    "create_cluster": "j-1",
    "commit_features": {
        "features": 10,
        "quarantined": 2,
        "changed": 0,
        "reasons": {"truncated": 2},
        "seconds": 33.0,
    },
    "commit_components": {
        "model_version": f"{BATCH}-1",
        "k": 7,
        "explained_variance_kept": 0.96,
        "warnings": ["few images"],
    },
    "terminate_cluster": {"seconds": 300.0, "promised": 1.5, "cost": 0.11, "currency": "USD"},
}


def facts(answers: dict[str, Any] = ANSWERS, **states: str) -> RunFacts:
    """Return a run that succeeded, but for the tasks in *states*."""
    known = dict.fromkeys(ANSWERS, "success") | states
    every = dict.fromkeys(ANSWERS) | answers
    return RunFacts(BATCH, "manual__1", THEN, known, every, started_at=THEN)


def test_a_whole_run_fills_the_row() -> None:
    """Counts, model, cluster and money each come from the task that knows them."""
    row = run_row(facts(), Settings(), NOW)

    assert row == {
        "batch": BATCH,
        "run_id": "manual__1",
        "outcome": "success",
        "failed_tasks": "",
        "images_uri": Settings().images_uri,
        "run_after": THEN,
        "reported_at": NOW,
        "started_at": THEN,
        **COUNTS,
        "features": 10,
        "quarantined": 2,
        "quarantine_reasons": '{"truncated": 2}',
        "changed": 0,
        "features_removed": 1,
        "feature_model": "MobileNetV2-1",
        "beside": False,
        "model_version": f"{BATCH}-1",
        "k": 7,
        "explained_variance_kept": 0.96,
        "cluster_id": "j-1",
        "cluster_seconds": 300.0,
        "added_bytes": 72_000,
        "engine": "litert",
        "worker_instance_type": "c6i.2xlarge",
        "workers": 1,
        "worker_vcpus": 8,
        "estimated_seconds": 30.5,
        "featurize_seconds": 33.0,
        "estimated_cost": 0.2,
        "worst_case": 1.5,
        "actual_cost": 0.11,
        "currency": "USD",
    }


def test_a_run_that_got_nowhere_has_a_row_too() -> None:
    """Nothing is known: the counts are 0, the rest is empty, the outcome is failed."""
    row = run_row(facts({}, sense_changes="failed"), Settings(), NOW)

    assert (row["outcome"], row["failed_tasks"]) == ("failed", "sense_changes")
    assert {row[name] for name in (*COUNTS, "features", "quarantined")} == {0}
    assert {row[name] for name in ("cluster_id", "actual_cost", "k", "model_version")} == {None}


def test_a_cluster_that_only_the_teardown_found_is_told() -> None:
    """The run was marked failed before create_cluster had its id: it was paid for all the same."""
    ended = {"clusters": ["j-2", "j-1"], "seconds": 60.0, "promised": 1.5, "cost": 0.1}
    stopped = ANSWERS | {"create_cluster": None, "terminate_cluster": ended}

    assert run_row(facts(stopped), Settings(), NOW)["cluster_id"] == "j-2"


@pytest.mark.parametrize(
    ("ended", "promised", "cost"),
    [
        # Two generations: both were promised, both were paid.
        ({"seconds": 500.0, "promised": 3.0, "cost": 0.2, "currency": "USD"}, 3.0, 0.2),
        # The ledger did not answer: the last promise is known, the cost is not.
        ({"seconds": 300.0, "promised": None, "cost": None, "currency": None}, 1.5, None),
        (None, 1.5, None),
    ],
)
def test_promise_and_cost_are_of_the_same_clusters(
    ended: dict[str, Any] | None, promised: float, cost: float | None
) -> None:
    """What a run cost is never held against the promise of its last cluster alone."""
    row = run_row(facts(ANSWERS | {"terminate_cluster": ended}), Settings(), NOW)

    assert (row["worst_case"], row["actual_cost"]) == (promised, cost)


@pytest.mark.parametrize(
    ("states", "outcome", "failed"),
    [
        ({}, "success", ""),
        ({"commit_features": "skipped"}, "success", ""),
        ({"commit_features": "failed"}, "failed", "commit_features"),
        ({"commit_features": "upstream_failed"}, "failed", ""),
        ({"terminate_cluster": "failed", "featurize": "failed"}, "failed", "featurize, terminate"),
    ],
)
def test_the_outcome_names_what_failed_itself(
    states: dict[str, str], outcome: str, failed: str
) -> None:
    """A skipped task is no failure; one that was held up by another's is not named."""
    row = run_row(facts(**states), Settings(), NOW)

    assert row["outcome"] == outcome
    assert row["failed_tasks"].startswith(failed)
    assert bool(row["failed_tasks"]) == bool(failed)


@pytest.mark.parametrize(
    ("wish", "task"),
    [
        ("remove", "commit_removals"),
        ("featurize", "commit_features"),
        ("reduce", "commit_components"),
    ],
)
def test_a_run_that_was_stopped_is_no_success(wish: str, task: str) -> None:
    """Marked failed while a task waits for its retry, a run has no failed task, but no rows."""
    asked = ANSWERS | {"sense_changes": ANSWERS["sense_changes"] | {wish: True}}

    assert run_row(facts(asked, **{task: "skipped"}), Settings(), NOW)["outcome"] == "failed"
    assert run_row(facts(asked), Settings(), NOW)["outcome"] == "success"


def test_a_run_over_nothing_but_broken_images_is_a_success() -> None:
    """They are rows of quarantine; without features there is nothing to reduce."""
    asked = {"featurize": True, "reduce": True}
    broken = ANSWERS | {
        "sense_changes": ANSWERS["sense_changes"] | asked,
        "commit_features": ANSWERS["commit_features"] | {"features": 0, "reducible": False},
        "commit_components": None,
    }
    skipped = {"pca": "skipped", "commit_components": "skipped"}

    assert facts(broken, **skipped).outcome == "success"
    broken["commit_features"]["reducible"] = True
    assert facts(broken, **skipped).outcome == "failed"


def test_a_mark_of_success_is_told_from_work_that_succeeded() -> None:
    """A task that was marked has no answer: its run is left green, although rows are missing."""
    asked = ANSWERS | {"sense_changes": ANSWERS["sense_changes"] | {"featurize": True}}
    stopped = facts(asked, commit_features="skipped")
    marked = facts(asked | {"create_cluster": None}, commit_features="skipped")

    assert (stopped.is_marked_success, marked.is_marked_success) == (False, True)
    assert marked.outcome == "failed"


def test_reporting_again_replaces_the_row(storage: ObjectStorage) -> None:
    """A run that is cleared reports twice and has one row, the last; other runs keep theirs."""
    other = RunFacts("20261120T030000-00000000", "scheduled__1", THEN, {}, {})

    write_report(other, Settings())
    write_report(facts(commit_components="failed"), Settings())
    write_report(facts(), Settings())

    assert {row["batch"]: row["outcome"] for row in runs()} == {
        BATCH: "success",
        other.batch: "success",
    }
    assert len(runs()) == 2


def test_the_row_keeps_what_was_reported(storage: ObjectStorage) -> None:
    """Whatever is reported has its column, in the type that was meant."""
    write_report(facts(), Settings())
    (row,) = runs()

    assert row | {"reported_at": NOW} == run_row(facts(), Settings(), NOW)


def test_the_report_is_an_object_that_people_can_read(storage: ObjectStorage) -> None:
    """The report has the row, and beside it reasons, warnings and task states."""
    returned = write_report(facts(), Settings())

    report = read_json(f"{report_folder('s3://fruits-lake', BATCH)}/report.json")
    assert report == returned
    assert report["quarantine_reasons"] == {"truncated": 2}
    assert report["warnings"] == ["few images"]
    assert report["tasks"]["commit_features"] == "success"
    assert report["run_after"] == "2026-11-21T03:00:00+00:00"


def runs() -> list[dict[str, Any]]:
    """Return the rows of the table `runs`."""
    from fruits.lake import open_catalog, open_table

    rows: list[dict[str, Any]] = open_table("runs", open_catalog()).scan().to_arrow().to_pylist()
    return rows
