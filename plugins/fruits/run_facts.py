"""What Airflow knows of a run at its end, gathered for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fruits.batches import batch_id
from fruits.reports import RunFacts

ANSWERS = (
    "sense_changes",
    "commit_removals",
    "stage_jobs",
    "reserve_cluster",
    "create_cluster",
    "await_cluster",
    "featurize",
    "commit_features",
    "pca",
    "commit_components",
    "terminate_cluster",
)
# They say nothing of the batch: the watcher only repeats the failures of others.
BYSTANDERS = ("report", "watcher")


def trouble(ti: Any, dag_run: Any, states: Mapping[str, str], lake: str) -> str | None:
    """Return why a run of *states* is no success, although what always runs succeeded; or None."""
    failed = sorted(task for task, state in states.items() if state == "failed")
    if failed:
        return f"Look at the logs of what failed: {', '.join(failed)}."
    facts = run_facts(ti, dag_run, states, lake)
    if facts.is_unfinished and not facts.is_marked_success:
        return (
            "The run was stopped before all that it had found was committed. Clear the first task "
            "that was skipped with its downstream tasks, or leave the rest to the next run."
        )
    return None


def task_states(ti: Any) -> dict[str, str]:
    """Return the state of each task of the run, by task id."""
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    return {task: str(state) for task, state in states.items()}


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


def run_facts(ti: Any, dag_run: Any, states: Mapping[str, str], lake: str) -> RunFacts:
    """Return the *states* and answers of the run's tasks, without the bystanders'."""
    return RunFacts(
        batch=batch_id(dag_run.run_after, dag_run.run_id, lake),
        run_id=dag_run.run_id,
        run_after=dag_run.run_after,
        started_at=dag_run.start_date,
        states={task: its for task, its in states.items() if task not in BYSTANDERS},
        answers={task: ti.xcom_pull(task_ids=task) for task in ANSWERS},
    )
