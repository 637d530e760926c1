"""Airflow's command line, in a process that has imported what the DAGs' tasks import.

    python -m local_cloud.preloaded scheduler

LocalExecutor forks a process for each task from the scheduler's: what is imported there, no task
imports again. That is two seconds of each task's three. Only libraries: the project's own modules
are to be read anew by each task, as they are edited.
"""

from __future__ import annotations

import importlib

LIBRARIES = (
    "airflow.providers.amazon.aws.sensors.emr",
    "boto3",
    "duckdb",
    "jinja2",
    "obstore",
    "pyarrow.dataset",
    "pydantic_settings",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
)


def main() -> None:
    """Import LIBRARIES and run the ``airflow`` command with this process' arguments."""
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("airflow.__main__").main()


if __name__ == "__main__":
    main()
