"""Airflow's local settings where no run but a test's own may come: schedules are half a day away.

A run by schedule that came beside a test's would take its images, or end its cluster. Airflow could
be told to create no runs by itself, but then none that an asset triggers, either.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable

import local_cloud.airflow_local_settings  # noqa: F401  (what the local Airflow has besides)

__all__ = ["dag_policy"]

FAR_HOUR = "FAR_HOUR"


def far_hour() -> dict[str, str]:
    """Return the variable that tells all processes which hour (UTC) is half a day from now."""
    return {FAR_HOUR: f"{datetime.now(UTC) + timedelta(hours=12):%H}"}


def dag_policy(dag: DAG) -> None:
    """Put a schedule by the clock to once a day, half past FAR_HOUR."""
    if isinstance(dag.timetable, CronTriggerTimetable):
        dag.timetable = CronTriggerTimetable(
            f"30 {os.environ[FAR_HOUR]} * * *", timezone="UTC", run_immediately=timedelta(0)
        )
