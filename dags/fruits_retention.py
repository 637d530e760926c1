"""What was removed is gone for good a week later: looked at every night.

`fruits_ingestion` takes the rows of a deleted image out of the tables; their older snapshots, and
manifests, logs and reports still have it. `FRUITS_RETENTION_DAYS` (7) after they ceased to be what
the tables are, snapshots expire, and every file that no snapshot needs is deleted; the others go at
that age. So an image that is deleted from
the bucket is nowhere in the lake after nine days: one until its rows go, seven, and one more.

A receipt in `erasures/` in the lake says what went; it names no image. *At once:*
`make erase KEY=...`. The same without Airflow: `python -m fruits.sweeps`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, task

from fruits import alerts
from fruits.retries import TransientFailures
from fruits.settings import load_settings

SETTINGS = load_settings()


@task
def delete_what_is_gone() -> dict[str, Any]:
    """Expire snapshots and delete what nothing needs; return the receipt's URI and counts."""
    from fruits.sweeps import sweep  # PyIceberg: too heavy to parse with

    return sweep(SETTINGS)


with DAG(
    dag_id="fruits_retention",
    # After the night's ingestion; beside a late one it does no harm.
    schedule=CronTriggerTimetable(
        "0 5 * * *", timezone="Europe/Paris", run_immediately=timedelta(0)
    ),
    catchup=False,
    max_active_runs=1,
    # Nobody has to remember to keep a promise.
    is_paused_upon_creation=False,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=2),
        "retry_policy": TransientFailures(),
        "on_failure_callback": alerts.on_failure(SETTINGS),
    },
    doc_md=__doc__,
    tags=["fruits"],
) as dag:
    delete_what_is_gone()
