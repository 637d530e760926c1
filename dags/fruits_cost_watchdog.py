"""No cluster of ours lives that nobody wants: looked at every ten minutes, whatever else happens.

A live cluster with our tag (`fruits:token`) is terminated when

* its **lease** is over: no task has waited for it in a while. A run that was paused, deleted or
  killed renews nothing, and a teardown ends the lease before it ends the cluster;
* it has **no** lease a quarter of an hour after its creation: it was lost, or no run of ours made
  the cluster;
* it is older than its **cap** (`fruits:cap-minutes`);
* a **newer** cluster carries the same token: a run has one.

A cluster without our tag is never touched. What cannot be read is never a reason to terminate: the
task then fails at its end, when it has done all that it could.

What it found is in the task's log, under `ledger/findings/` in the lake, and in an event of the
asset `fruits_watchdog_findings`, which a DAG of yours can be scheduled on: there is none after a
quiet look, nor after one that failed. `FRUITS_ALERT_TOPIC` is told of clusters that were ended, and
of looks that failed.
It also writes into the month's ledger what the clusters of dead runs have cost, and to
`ledger/last_look.json` that it has looked: the page *Fruits!* says so when it has not for half an
hour.

*Dry run* only says what it would do. The same without Airflow, from any machine with credentials:
`python -m fruits.watchdog`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, CronTriggerTimetable, Metadata, Param, task

from fruits import alerts, watchdog
from fruits.costs import WATCHDOG_PERIOD
from fruits.retries import TransientFailures
from fruits.settings import load_guard_settings

SETTINGS = load_guard_settings()
FINDINGS = Asset(name="fruits_watchdog_findings", uri=f"{SETTINGS.lake}/ledger/findings")
# A plain outlet would have an event after every look; through an alias there is one when we say so.
LOOKS = AssetAlias("fruits_watchdog_looks")


@task(outlets=[LOOKS], execution_timeout=timedelta(minutes=WATCHDOG_PERIOD - 2))
def end_unwanted_clusters(params: dict[str, Any], ti: Any) -> Any:
    """End the clusters of ours that nobody wants; return their ids and the reasons."""
    try:
        found = watchdog.watch(SETTINGS, dry_run=params["dry_run"])
    except watchdog.WatchdogError as error:
        alerts.tell_findings(SETTINGS, error.found, ti)  # the retry finds them ending
        raise
    alerts.tell_findings(SETTINGS, found, ti)
    if found["terminated"]:
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
        "on_failure_callback": alerts.on_failure(SETTINGS),
    },
    doc_md=__doc__,
    tags=["fruits"],
) as dag:
    end_unwanted_clusters()
