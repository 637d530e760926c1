"""No cluster of ours lives that nobody wants: looked at every ten minutes, whatever else happens.

A live cluster with our tag (`fruits:token`) is terminated when

* its **lease** is over: no task has waited for it in a while. A run that was paused, deleted or
  killed renews nothing, and a teardown ends the lease before it ends the cluster;
* it is older than its **cap** (`fruits:cap-minutes`);
* a **newer** cluster carries the same token: a run has one.

A cluster without our tag is never touched. What cannot be read is never a reason to terminate: the
task then fails at its end, when it has done all that it could.

What it found is in the task's log, under `ledger/findings/` in the lake, and in an event of the
asset `fruits_watchdog_findings`, which an alert can be scheduled on: there is none on a quiet look,
nor of a look that failed. Alert on the task's failure as well.
It also writes into the month's ledger what the clusters of dead runs have cost.

*Dry run* only says what it would do. The same without Airflow, from any machine with credentials:
`python -m fruits.watchdog`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, CronTriggerTimetable, Metadata, Param, task

from fruits import watchdog
from fruits.costs import WATCHDOG_PERIOD
from fruits.retries import TransientFailures
from fruits.settings import load_settings

SETTINGS = load_settings()
FINDINGS = Asset(name="fruits_watchdog_findings", uri=f"{SETTINGS.lake}/ledger/findings")
# A plain outlet would have an event after every look; through an alias there is one when we say so.
LOOKS = AssetAlias("fruits_watchdog_looks")


@task(outlets=[LOOKS], execution_timeout=timedelta(minutes=WATCHDOG_PERIOD - 2))
def end_unwanted_clusters(params: dict[str, Any]) -> Any:
    """End the clusters of ours that nobody wants; return their ids and the reasons."""
    found = watchdog.watch(SETTINGS, dry_run=params["dry_run"])
    if found["findings"] and not params["dry_run"]:
        yield Metadata(FINDINGS, found, alias=LOOKS)
    return found


with DAG(
    dag_id="fruits_cost_watchdog",
    schedule=CronTriggerTimetable(
        f"*/{WATCHDOG_PERIOD} * * * *", timezone="UTC", run_immediately=timedelta(0)
    ),
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
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_policy": TransientFailures(),
    },
    doc_md=__doc__,
    tags=["fruits"],
) as dag:
    end_unwanted_clusters()
