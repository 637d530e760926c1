"""Runs of the real DAGs in a real Airflow, as somebody at its REST API sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from local_cloud.airflow import LocalAirflow

INGESTION = "fruits_ingestion"
WATCHDOG = "fruits_cost_watchdog"
SWITCH = "fruits_switch_model"


@dataclass(frozen=True)
class Run:
    """How a run ended, with the state of each task."""

    dag_id: str
    id: str
    state: str
    states: dict[str, str]

    def tasks(self, state: str) -> set[str]:
        """Return the ids of the tasks in *state*."""
        return {task for task, its in self.states.items() if its == state}


@dataclass(frozen=True)
class AirflowRuns:
    """Triggers, follows and clears runs."""

    airflow: LocalAirflow

    def wait_for_dags(self, *dag_ids: str) -> None:
        """Return once Airflow knows all of *dag_ids*; AssertionError with its import errors."""
        deadline = time.monotonic() + 240
        while not set(dag_ids) <= {dag["dag_id"] for dag in self._call("GET", "dags")["dags"]}:
            errors = self._call("GET", "importErrors")["import_errors"]
            assert not errors, errors[0]["stack_trace"]
            assert time.monotonic() < deadline, f"Airflow has not found {dag_ids}"
            time.sleep(0.3)

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> Run:
        """Run the DAG once with *conf* and return how it ended."""
        self._call("PATCH", f"dags/{dag_id}", {"is_paused": False})
        body = {"logical_date": None, "conf": dict(conf)}
        return self.follow(dag_id, self._call("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def backfill(self, dag_id: str, first: datetime, last: datetime) -> list[Run]:
        """Make up for the scheduled runs from *first* to *last*; return how they ended, by date."""
        self._call("PATCH", f"dags/{dag_id}", {"is_paused": False})
        days = {"from_date": first.isoformat(), "to_date": last.isoformat()}
        self._call("POST", "backfills", {"dag_id": dag_id, **days})
        found = self._call("GET", f"dags/{dag_id}/dagRuns?run_type=backfill&order_by=logical_date")
        return [self.follow(dag_id, run["dag_run_id"]) for run in found["dag_runs"]]

    def clear(self, run: Run, task_id: str) -> Run:
        """Clear a task and what follows it, as in the UI; return how the run then ended."""
        scope = {"task_ids": [task_id], "include_downstream": True, "only_failed": False}
        body = {"dag_run_id": run.id, "dry_run": False, **scope}
        self._call("POST", f"dags/{run.dag_id}/clearTaskInstances", body)
        return self.follow(run.dag_id, run.id)

    def next_by_schedule(self, *dag_ids: str) -> list[datetime]:
        """Return when the next run of each DAG begins by its schedule."""
        dags = [self._call("GET", f"dags/{dag_id}") for dag_id in dag_ids]
        return [datetime.fromisoformat(dag["next_dagrun_run_after"]) for dag in dags]

    def answer(self, run: Run, task_id: str) -> Any:
        """Return what the task returned."""
        path = f"dags/{run.dag_id}/dagRuns/{run.id}/taskInstances/{task_id}"
        value = self._call("GET", f"{path}/xcomEntries/return_value?deserialize=false")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def asset_events(self, run: Run) -> dict[str, dict[str, Any]]:
        """Return what the run said of the assets that it changed, by their names."""
        events = self._call("GET", f"assets/events?source_run_id={quote(run.id)}")["asset_events"]
        return {event["name"]: event["extra"] for event in events}

    def follow(self, dag_id: str, run_id: str, seconds: float = 600) -> Run:
        """Wait until the run has ended, and return how; AssertionError after *seconds*."""
        path, deadline = f"dags/{dag_id}/dagRuns/{run_id}", time.monotonic() + seconds
        while (state := self._call("GET", path)["state"]) not in ("success", "failed"):
            assert time.monotonic() < deadline, f"{run_id} is still {state}"
            time.sleep(1)
        tasks = self._call("GET", f"{path}/taskInstances?limit=100")["task_instances"]
        return Run(dag_id, run_id, state, {task["task_id"]: task["state"] for task in tasks})

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.airflow.call(method, path, body)
