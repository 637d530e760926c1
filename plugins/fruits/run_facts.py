"""What Airflow knows of a run at its end, gathered for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from fruits.batches import batch_id
from fruits.reports import RunFacts

ANSWERS = (
    "sense_changes",
    "commit_removals",
    "reserve_cluster",
    "create_cluster",
    "featurize",
    "commit_features",
    "pca",
    "commit_components",
    "terminate_cluster",
)
# They say nothing of the batch: the watcher only repeats the failures of others.
BYSTANDERS = ("report", "watcher")


def failed_tasks(ti: Any) -> list[str]:
    """Return the tasks of the run that failed, not those that did not begin because of it."""
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    return sorted(task for task, state in states.items() if str(state) == "failed")


def run_at_work(ti: Any) -> str | None:
    """Return another run of the DAG that has sensed something and is not over; None without one.

    A run that senses now is none: of that task Airflow runs one at a time. One that is queued is
    none either: it was cleared, and may wait for this one to end.
    """
    if ti.get_dr_count(dag_id=ti.dag_id, states=["running"]) < 2:
        return None  # saves asking for all runs that ever were
    tasks = ["sense_changes", "watcher"]
    runs = ti.get_task_states(dag_id=ti.dag_id, task_ids=tasks)
    others = (run for run, states in runs.items() if run != ti.run_id and at_work(states))
    return next((run for run in others if is_running(ti, run)), None)


def is_running(ti: Any, run_id: str) -> bool:
    """Say whether the run of the task's DAG is running."""
    # An enum of strings, which str() would turn into its name.
    return bool(ti.get_dagrun_state(dag_id=ti.dag_id, run_id=run_id) == "running")


def at_work(states: Mapping[str, Any]) -> bool:
    """Say of a run's states whether it has sensed something and its last task is still to come."""
    over = ("success", "failed", "skipped", "upstream_failed", "removed")
    sensed, last = (str(states.get(task)) for task in ("sense_changes", "watcher"))
    return sensed == "success" and last not in over


def run_facts(ti: Any, dag_run: Any) -> RunFacts:
    """Return the states and answers of the run's tasks; skip if there was nothing to report."""
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    if states.get("sense_changes") == "skipped":
        raise AirflowSkipException("Nothing changed, so there is no batch to report.")
    return RunFacts(
        batch=batch_id(dag_run.run_after, dag_run.run_id),
        run_id=dag_run.run_id,
        run_after=dag_run.run_after,
        started_at=dag_run.start_date,
        states={task: str(state) for task, state in states.items() if task not in BYSTANDERS},
        answers={task: ti.xcom_pull(task_ids=task) for task in ANSWERS},
    )
