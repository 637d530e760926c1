"""How the DAGs are wired: what always runs, what fails the run, what clearing a task clears."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from fruits.costs import MARGIN, WATCHDOG_PERIOD

DAGS = ("fruits_ingestion", "fruits_cost_watchdog", "fruits_retention", "fruits_switch_model")
SETUPS = {"reserve_cluster", "create_cluster"}
TEARDOWN = "terminate_cluster"


@pytest.mark.parametrize("dag_id", DAGS)
def test_no_run_has_a_timeout(dags: Mapping[str, Any], dag_id: str) -> None:
    """A dagrun_timeout skips unfinished tasks, the teardown too: it would orphan the cluster."""
    assert dags[dag_id].dagrun_timeout is None


@pytest.mark.parametrize("dag_id", DAGS)
def test_no_sensor_fails_softly(dags: Mapping[str, Any], dag_id: str) -> None:
    """soft_fail and its kin turn real failures into skipped tasks and green runs."""
    soft = ("soft_fail", "never_fail", "silent_fail")

    assert not [t.task_id for t in dags[dag_id].tasks if any(getattr(t, s, False) for s in soft)]


@pytest.mark.parametrize("dag_id", DAGS)
def test_every_task_is_retried(dags: Mapping[str, Any], dag_id: str) -> None:
    """A blip costs a retry, not the run."""
    for task in dags[dag_id].tasks:
        assert task.retries >= 2, task.task_id


@pytest.mark.parametrize("dag_id", DAGS)
def test_runs_are_never_made_up_for_nor_side_by_side(dags: Mapping[str, Any], dag_id: str) -> None:
    """One run at a time, none for the past, and the page says what it does."""
    dag = dags[dag_id]

    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.doc_md.strip()


def test_the_ingestion_runs_at_night_in_paris(ingestion: Any) -> None:
    """Daily at 03:00 Europe/Paris, in summer as in winter."""
    schedule = ingestion.timetable

    assert schedule.expression == "0 3 * * *"
    assert str(schedule.timezone) == "Europe/Paris"


def test_no_task_hangs_for_ever(dags: Mapping[str, Any]) -> None:
    """One run at a time: a call that never comes back would hold up all that follow."""
    tasks = [task for dag in dags.values() for task in dag.tasks]

    assert [task.task_id for task in tasks if task.execution_timeout is None] == []
    longest = timedelta(minutes=24 * 60)  # of a cap
    waiting = [task for task in tasks if task.task_id in ("await_cluster", "featurize", "pca")]
    assert all(task.execution_timeout > longest for task in waiting)
    assert len(waiting) == 3


def test_the_watchdog_guards_from_the_start(watchdog: Any) -> None:
    """As often as promises assume, nobody switches it on, and no look outlasts its turn."""
    (task,) = watchdog.tasks

    assert watchdog.timetable.expression == f"*/{WATCHDOG_PERIOD} * * * *"
    assert WATCHDOG_PERIOD < MARGIN
    assert 60 % WATCHDOG_PERIOD == 0
    assert watchdog.is_paused_upon_creation is False
    assert task.execution_timeout < timedelta(minutes=WATCHDOG_PERIOD)


def test_the_retention_is_kept_from_the_start(dags: Mapping[str, Any]) -> None:
    """Every night, after the ingestion, and nobody switches it on."""
    retention = dags["fruits_retention"]

    assert retention.timetable.expression == "0 5 * * *"
    assert retention.is_paused_upon_creation is False


def test_the_switch_waits_for_somebody(dags: Mapping[str, Any]) -> None:
    """It has no schedule, and one that is triggered is not held up by a pause."""
    switch = dags["fruits_switch_model"]

    assert not switch.timetable.can_be_scheduled
    assert switch.is_paused_upon_creation is False


def test_sensing_is_done_by_one_run_at_a_time(ingestion: Any) -> None:
    """A backfill's runs are not held to max_active_runs, and would all find the same images."""
    assert ingestion.get_task("sense_changes").max_active_tis_per_dag == 1


def test_a_quiet_look_of_the_watchdog_is_no_event(watchdog: Any) -> None:
    """A plain outlet would have one after every look, and an alert on it would never be still."""
    from airflow.sdk import AssetAlias

    (task,) = watchdog.tasks

    assert [type(outlet) for outlet in task.outlets] == [AssetAlias]


def test_the_teardown_takes_nothing_of_the_form(ingestion: Any) -> None:
    """Values that no longer fit changed settings must not keep a cluster alive."""
    teardown = ingestion.get_task("terminate_cluster")

    assert set(inspect.signature(teardown.python_callable).parameters) == {"dag_run"}


def test_the_cluster_ends_after_pca(ingestion: Any) -> None:
    """Only the task of the last step tells its cluster to end itself."""
    assert [t.task_id for t in ingestion.tasks if getattr(t, "last", False)] == ["pca"]


def test_both_setups_have_the_teardown(ingestion: Any) -> None:
    """A failed create_cluster still gets its teardown: reserve_cluster is a setup of it too."""
    teardown = ingestion.get_task(TEARDOWN)

    assert {task.task_id for task in ingestion.tasks if task.is_setup} == SETUPS
    assert teardown.upstream_task_ids >= SETUPS
    assert teardown.on_failure_fail_dagrun


def test_tasks_run_under_the_rules_that_they_need(ingestion: Any) -> None:
    """Only what must outlive a failure or a skip departs from all_success."""
    unusual = {
        task.task_id: task.trigger_rule
        for task in ingestion.tasks
        if task.trigger_rule != "all_success"
    }

    assert unusual == {
        "pca": "none_failed",
        TEARDOWN: "all_done_setup_success",
        "report": "all_done_setup_success",
        "watcher": "all_done_setup_success",
    }


def test_what_follows_the_teardown_runs_always(ingestion: Any) -> None:
    """Report and watcher are teardowns, which no mark on the run skips, and have no setups."""
    last = [ingestion.get_task(name) for name in (TEARDOWN, "report", "watcher")]

    assert [task for task in ingestion.tasks if task.is_teardown] == last
    assert [task.downstream_task_ids for task in last] == [{"report"}, {"watcher"}, set()]
    # With a setup of its own it would be skipped where that setup was.
    assert all(not one.is_setup for task in last[1:] for one in task.upstream_list)


def test_the_watcher_decides(ingestion: Any) -> None:
    """It comes after all other tasks, and its failure is the run's."""
    watcher = ingestion.get_task("watcher")
    seen = watcher.get_flat_relative_ids(upstream=True)

    assert seen == {task.task_id for task in ingestion.tasks} - {"watcher"}
    assert watcher.on_failure_fail_dagrun


@pytest.mark.parametrize("task_id", ["featurize", "pca", "commit_features", "await_cluster"])
def test_clearing_a_task_checks_the_promise_and_ends_the_cluster_again(
    ingestion: Any, task_id: str
) -> None:
    """Clearing one task clears both setups and the teardown, and no other work."""
    cleared = ingestion.partial_subset([task_id], include_upstream=False)

    assert set(cleared.task_ids) == {task_id, *SETUPS, TEARDOWN}


@pytest.mark.parametrize("task_id", ["sense_changes", "commit_removals", "stage_jobs", "report"])
def test_clearing_what_needs_no_cluster_creates_none(ingestion: Any, task_id: str) -> None:
    """A task outside of setups and teardown is cleared alone."""
    cleared = ingestion.partial_subset([task_id], include_upstream=False)

    assert set(cleared.task_ids) == {task_id}


@pytest.mark.parametrize("dag_id", DAGS)
def test_serialization_keeps_every_task(dags: Mapping[str, Any], dag_id: str) -> None:
    """What the scheduler reads back is what was written in the file."""
    from airflow.serialization.serialized_objects import DagSerialization

    dag = dags[dag_id]

    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))

    assert {t.task_id: t.downstream_task_ids for t in again.tasks} == {
        t.task_id: t.downstream_task_ids for t in dag.tasks
    }
    assert set(again.params) == set(dag.params)
