"""What a lab was doing when something did not happen in time, for the failing test to say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_cloud.airflow import PROCESSES
from local_cloud.emr import journal

if TYPE_CHECKING:
    from tests.chaos.lab import Lab

LINES = 8
FACTS = ("task_id", "state", "try_number", "start_date", "end_date", "pid")


def situation(lab: Lab) -> str:
    """Return each unfinished run's tasks with their logs' ends, EMR's last changes, processes."""
    lines = [f"load {os.getloadavg()}"]
    for run in lab.unfinished_runs():
        for task in lab.tasks(run):
            lines.append(f"{run} " + " ".join(str(task[fact]) for fact in FACTS))
            if task["state"] == "running":
                lines += _end_of_log(lab.airflow.folder / "logs", run, task)
    changes = [entry for entry in journal.read(lab.journal) if entry["kind"] != "call"]
    lines += [json.dumps(change) for change in changes[-LINES:]]
    return "\n".join([*lines, *_processes(lab)])


def _end_of_log(logs: Path, run: str, task: dict[str, Any]) -> list[str]:
    folder = logs / f"dag_id={task['dag_id']}" / f"run_id={run}" / f"task_id={task['task_id']}"
    files = sorted(folder.glob("attempt=*.log"))
    return files[-1].read_text(errors="replace").splitlines()[-LINES:] if files else []


def _processes(lab: Lab) -> Iterator[str]:
    for name in PROCESSES:
        for process in lab.airflow.processes(name):
            with process.oneshot():
                times, command = process.cpu_times(), " ".join(process.cmdline())[:100]
                yield f"{process.pid} {process.status()} {times.user:.1f} s {command}"
