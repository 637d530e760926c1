"""The main job on this machine: trigger the DAG in a real Airflow, follow it, show what it did."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from local_cloud.airflow import LocalAirflow
from local_cloud.s3 import ObjectStorage

DAG = "fruits_ingestion"
DONE = ("success", "failed")
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
LAKE = "s3://fruits-lake"
PATIENCE = 60  # seconds until Airflow has parsed the DAG
SEEDED = (
    "The network's weights are made up (seeded), because ImageNet's could not be had: every step "
    "is real, but similar fruits will not look similar. Give real ones with "
    "WEIGHTS=<file.h5>, after `make clean`."
)
READING = """\
from fruits.lake import read
features = read("features").to_pandas()
components = read("components").to_pandas()"""


@dataclass
class Demo:
    """One run of the DAG, followed in a terminal.

    What the steps write into *storage* is watched directly, in the folder behind the lake's bucket.
    """

    airflow: LocalAirflow
    storage: ObjectStorage
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    _states: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, float] = field(default_factory=dict)
    _progress: str = ""
    _started: float = field(default_factory=time.time)

    def run(self, conf: Mapping[str, Any], poll: float = 1.0) -> bool:
        """Trigger the DAG with *conf*, follow it to its end, and say whether it succeeded.

        Raises AirflowError, with the log, if one of Airflow's processes ends before the run does,
        and RuntimeError if S3 does.
        """
        run = self._trigger(conf)
        run_id = run["dag_run_id"]
        url = f"{self.airflow.url}/dags/{DAG}/runs/{run_id}"
        self.console.print(f"Run {run_id}, to be seen while it runs at\n{url}")
        while run["state"] not in DONE:
            time.sleep(poll)
            self.airflow.check_alive()
            self.storage.check_alive()
            self._show_changes(run_id)
            run = self._call("GET", f"dags/{DAG}/dagRuns/{run_id}")
        tasks = self._show_changes(run_id)
        self._show_weights(run_id)
        if run["state"] == "success":
            self._show_report(run_id, tasks)
        else:
            self._show_failures(run_id, tasks)
        return bool(run["state"] == "success")

    @property
    def lake(self) -> Path:
        """The folder behind the lake's bucket."""
        return self.storage.folder / LAKE.removeprefix("s3://")

    def wait_for_dag(self) -> None:
        """Return once Airflow has parsed the DAG; RuntimeError with its import error otherwise."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            dags = self._call("GET", "dags")["dags"]
            if any(dag["dag_id"] == DAG for dag in dags):
                return
            errors = self._call("GET", "importErrors")["import_errors"]
            if errors:
                raise RuntimeError(errors[0]["stack_trace"])
            time.sleep(0.5)
        raise RuntimeError(f"Airflow has not found {DAG} in {PATIENCE} s")

    def _trigger(self, conf: Mapping[str, Any]) -> dict[str, Any]:
        # A paused DAG's runs wait.
        self._call("PATCH", f"dags/{DAG}", {"is_paused": False})
        body = {"logical_date": None, "conf": dict(conf)}
        return dict(self._call("POST", f"dags/{DAG}/dagRuns", body))

    def _show_changes(self, run_id: str) -> list[dict[str, Any]]:
        """Print each task whose state changed, and the running step's progress."""
        tasks = self._call("GET", f"dags/{DAG}/dagRuns/{run_id}/taskInstances")["task_instances"]
        tasks.sort(key=lambda task: task["start_date"] or "~")
        for task in tasks:
            name, state = task["task_id"], task["state"]
            if state == "running" and time.time() - self._seen.setdefault(name, time.time()) < 3:
                continue  # most tasks are done before they are worth a line
            if state in (*ENDED, "running") and self._states.get(name) != state:
                self._states[name] = state
                self._print_state(name, state, task["duration"])
        self._print_progress()
        return list(tasks)

    def _print_state(self, name: str, state: str, seconds: float | None) -> None:
        if state in ("skipped", "upstream_failed", "removed"):
            return  # what did not run is not worth a line
        colour = {"success": "green", "failed": "red"}.get(state, "dim")
        took = f" {seconds:.1f} s" if seconds and state in DONE else ""
        self.console.print(f"  {name:<24} [{colour}]{state}[/{colour}]{took}")

    def _print_progress(self) -> None:
        found = sorted(self._written("attempts/*/*/progress.json"), key=_written_at)
        if not found:
            return
        try:
            progress = json.loads(found[-1].read_text())
        except ValueError:  # half written: the next look sees it whole
            return
        left = f", {progress['eta_seconds']:.0f} s left" if progress.get("eta_seconds") else ""
        line = (
            f"{progress['step']}: {progress['done']}/{progress['total']} images, "
            f"{progress.get('images_per_second') or 0:.0f}/s{left}"
        )
        if line != self._progress and progress["done"]:
            self._progress = line
            self.console.print(f"    [dim]{line}[/dim]")

    def _show_weights(self, run_id: str) -> None:
        found = self._answer(run_id, "sense_changes")
        if found and found["weights"]["source"] == "seeded":
            self.console.print(f"[bold yellow]{SEEDED}[/bold yellow]")
        if found and found["overruled"]:
            told = f"{found['overruled']} was asked for, but the tables are of another network"
            self.console.print(
                f"[bold yellow]{told}: `make clean` first, or see docs/reprocess.md.[/bold yellow]"
            )

    def _show_report(self, run_id: str, tasks: list[dict[str, Any]]) -> None:
        report = self._answer(run_id, "report")
        if report is None:
            self.console.print(
                "Nothing changed since the last batch: no cluster was needed. "
                "`make clean` forgets it; IMAGES=<folder> brings other images. Other WEIGHTS need "
                "`make clean`, or a reprocess: docs/reprocess.md."
            )
            return
        table = Table(title=f"Batch {report['batch']}", show_header=False, title_style="bold")
        for name, value in _facts(report).items():
            table.add_row(name, value)
        table.add_section()
        for task in tasks:
            if task["state"] == "success" and task["duration"]:
                table.add_row(task["task_id"], f"{task['duration']:.1f} s")
        self.console.print(table)
        page = self.lake / "reports" / report["batch"] / "report.html"
        self.console.print(f"Its report, for a browser: {page}")
        self.console.print(f"The tables are under {LAKE}/tables, which is {self.lake}/tables here.")
        self.console.print("With the local cloud up (make up, then make shell), this opens them:\n")
        self.console.print(READING)

    def _show_failures(self, run_id: str, tasks: list[dict[str, Any]]) -> None:
        for task in tasks:
            if task["state"] == "failed" and task["task_id"] != "watcher":
                self.console.print(
                    f"\n[bold red]{task['task_id']} failed[/bold red]; its log ends:"
                )
                for line in self._log(run_id, task)[-12:]:
                    self.console.print(f"  {line}", markup=False)
        if errors := self._written("logs/*/steps/*/stderr.gz"):
            newest = max(errors, key=_written_at)
            lines = gzip.decompress(newest.read_bytes()).decode(errors="replace").splitlines()
            told = [line for line in lines if " INFO " not in line][-12:]
            self.console.print(f"\nThe newest step's stderr ({newest}) ends:")
            for line in told:
                self.console.print(f"  {line}", markup=False)

    def _written(self, pattern: str) -> list[Path]:
        """Return the objects of the lake that were written since the demo began."""
        return [path for path in self.lake.glob(pattern) if _written_at(path) > self._started]

    def _log(self, run_id: str, task: dict[str, Any]) -> list[str]:
        path = f"dags/{DAG}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs"
        content = self._call("GET", f"{path}/{task['try_number']}?full_content=true")["content"]
        # Airflow tells its own story at the level of info; what went wrong is above it.
        told = [entry for entry in content if _level(entry) in ("warning", "error", "critical")]
        return [_log_line(entry) for entry in told or content]

    def _answer(self, run_id: str, task_id: str) -> dict[str, Any] | None:
        path = f"dags/{DAG}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            value = self._call("GET", f"{path}?deserialize=false")["value"]
        except OSError:  # 404: the task was skipped
            return None
        return dict(json.loads(value) if isinstance(value, str) else value)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.airflow.call(method, path, body)


def _facts(report: dict[str, Any]) -> dict[str, str]:
    reasons = ", ".join(f"{count} {name}" for name, count in report["quarantine_reasons"].items())
    facts = {
        "images listed": str(report["listed"]),
        "new or replaced": str(report["added"]),
        "gone": str(report["deleted"]),
        "features": str(report["features"]),
        "quarantined": f"{report['quarantined']} {f'({reasons})' if reasons else ''}",
    }
    if report["k"]:
        kept = report["explained_variance_kept"]  # None while all images are the same
        share = "" if kept is None else f" keep {kept:.1%} of the variance"
        facts["components"] = f"{report['k']} per image{share}"
    if report["cluster_id"]:
        lived = f"lived {report['cluster_seconds']:.0f} s"
        facts["cluster"] = f"{report['cluster_id']} {lived}"
        promised = f"{report['worst_case']:.2f} {report['currency']}"
        # It is not known while the ledger cannot be written.
        known = report["actual_cost"] is not None
        money = f"{report['actual_cost']:.2f} {report['currency']} for that time; " if known else ""
        facts["at EMR's prices"] = f"{money}promised at most {promised}"
    facts["network"] = str(report["feature_model"])
    return facts


def _log_line(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    line = str(entry.get("event", ""))
    for error in entry.get("error_detail") or []:
        line += f"\n  {error.get('exc_type')}: {error.get('exc_value')}"
    return line


def _level(entry: Any) -> str:
    return "" if isinstance(entry, str) else str(entry.get("level", ""))


def _written_at(path: Path) -> float:
    return path.stat().st_mtime
