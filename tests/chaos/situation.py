"""What a lab was doing when something did not happen in time, for the failing test to say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from local_cloud.airflow import PROCESSES
from local_cloud.cloud import FOLDER_MARK
from local_cloud.emr import journal

if TYPE_CHECKING:
    from tests.chaos.lab import Lab

LINES = 8
COMPLAINTS = ("[warning", "[error", "[critical", "Marked ", "Reset the following")
FACTS = ("task_id", "state", "try_number", "start_date", "end_date", "pid")


def situation(lab: Lab, *ended: str) -> str:
    """Return unfinished and *ended* runs' tasks with their logs' ends, EMR's changes, processes.

    A machine that does much else shows in the load and in processes that have little CPU time for
    their age; one that hangs, in what its processes wait for in the kernel.
    """
    lines = [f"load {os.getloadavg()}"]
    for run in [*lab.unfinished_runs(), *ended]:
        for task in lab.tasks(run):
            lines.append(f"{run} " + " ".join(str(task[fact]) for fact in FACTS))
            if task["state"] in ("running", "failed"):
                lines += _end_of_log(lab.airflow.folder / "logs", run, task)
    changes = [entry for entry in journal.read(lab.journal) if entry["kind"] != "call"]
    lines += [json.dumps(change) for change in changes[-LINES:]]
    return "\n".join([*lines, *_end_of_step(lab), *_complaints(lab), *_processes(lab)])


def _end_of_log(logs: Path, run: str, task: dict[str, Any]) -> list[str]:
    folder = logs / f"dag_id={task['dag_id']}" / f"run_id={run}" / f"task_id={task['task_id']}"
    files = sorted(folder.glob("attempt=*.log"))
    return _end(files[-1]) if files else []


def _end_of_step(lab: Lab) -> list[str]:
    """Return how the log of the step that was started last ends."""
    files = lab.cloud.folder.glob("emr/clusters/*/steps/*/stderr")
    newest = max(files, key=lambda file: file.parent.stat().st_ctime, default=None)
    return _end(newest) if newest else []


def _end(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines()[-LINES:]


def _complaints(lab: Lab) -> list[str]:
    """Return the scheduler's last lines on what it gave up, took from others, or could not do."""
    log = lab.airflow.folder / "scheduler.log"
    told = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [line for line in told if any(word in line for word in COMPLAINTS)][-LINES:]


def _processes(lab: Lab) -> Iterator[str]:
    for name in PROCESSES:
        for process in lab.airflow.processes(name):
            yield from _describe(process)
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(FOLDER_MARK) == str(lab.cloud.folder):
                yield from _describe(process)


def _describe(process: psutil.Process) -> Iterator[str]:
    with suppress(psutil.Error, OSError):  # tasks come and go
        with process.oneshot():
            times, command = process.cpu_times(), " ".join(process.cmdline())[:100]
            state, threads = process.status(), process.num_threads()
        waits_for = Path(f"/proc/{process.pid}/wchan").read_text()
        yield f"{process.pid} {state} {waits_for} {threads} threads {times.user:.1f} s {command}"
