"""What Airflow knows of a run at its end, gathered for the report."""

from __future__ import annotations

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
