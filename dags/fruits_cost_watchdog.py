"""No cluster of ours lives that nobody wants: looked at every ten minutes, whatever else happens.

A live cluster with our tag (`fruits:token`) is terminated when

* its **lease** is over: no task has waited for it in a while. A run that was paused, deleted or
  killed renews nothing;
* it is older than its **cap** (`fruits:cap-minutes`);
* a **newer** cluster carries the same token: a run has one.

A cluster without our tag is never touched. What cannot be read is never a reason to terminate: the
task then fails at its end, when it has done all that it could. *Dry run* only says what it would
do. The same without Airflow, from any machine with credentials: `python -m fruits.watchdog`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from fruits import watchdog
from fruits.settings import Settings


@task(execution_timeout=timedelta(minutes=8))
def end_unwanted_clusters(params: dict[str, Any]) -> dict[str, Any]:
    """End the clusters of ours that nobody wants; return their ids and the reasons."""
    return watchdog.watch(Settings(), dry_run=params["dry_run"])


with DAG(
    dag_id="fruits_cost_watchdog",
    schedule=CronTriggerTimetable("*/10 * * * *", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    # A guard that somebody has to switch on first guards nothing.
    is_paused_upon_creation=False,
    params={
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Say which clusters would be terminated, and why; terminate none.",
        )
    },
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["fruits"],
) as dag:
    end_unwanted_clusters()
