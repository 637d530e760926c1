"""Where things are broken: one local cloud, fault proxies before it, and a real Airflow.

All processes run as they do elsewhere; only times are short, by settings: EMR's clusters live
minutes instead of hours, and Airflow notices a dead process in seconds instead of minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import boto3
import psutil
from pyiceberg.catalog import load_catalog

from local_cloud.airflow import PARSED_ONCE, PROCESSES, LocalAirflow
from local_cloud.cloud import LocalCloud
from local_cloud.emr import capacity, journal
from local_cloud.samples import draw
from tests.chaos.faults import FaultProxy, Rule
from tests.chaos.situation import situation
from tests.chaos.tables import Tables, read_tables

ROOT = Path(__file__).resolve().parents[2]
INGESTION = "fruits_ingestion"
WATCHDOG = "fruits_cost_watchdog"
LIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")

FRUITS = {
    "IMAGES_URI": "s3://fruits-images/fruits/",
    "WEIGHTS": "seeded",
    "WORKERS": "1",
    # What a case may choose at the least; most give their runs ENOUGH.
    "CAP_MINUTES": "2",
    "IDLE_MINUTES": "1",
    # Long enough for a scheduler to come back, short enough to be waited for.
    "LEASE_MINUTES": "0.75",
    "READY_MINUTES": "1",
    "POLL_SECONDS": "0.5",
    # The first run fits; those after it project their images, as on most days.
    "REFIT": "never",
    "PRICES_MAX_AGE_DAYS": "36500",
    "NODE_PYTHON": sys.executable,
}
LEASE_SECONDS = 60 * float(FRUITS["LEASE_MINUTES"])
ENOUGH = 4  # minutes for a run, on a busy machine too
# A step without an end.
HANGING = "import time\ntime.sleep(1000)\n"
AIRFLOW = PARSED_ONCE | {
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    # Only what a case triggers: at 03:00 in Paris a scheduled run would come before its own.
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
}


@dataclass
class Lab:
    """A cloud, its proxies and an Airflow over *folder*; `restore` undoes what a case broke."""

    folder: Path
    cloud: LocalCloud
    emr: FaultProxy
    s3: FaultProxy
    cache: Path
    _images: int = 0
    _replaced: dict[Path, bytes] = field(default_factory=dict)
    _is_supervised: bool = False

    @cached_property
    def airflow(self) -> LocalAirflow:
        """The Airflow whose processes are killed."""
        environment = self.environment("airflow") | AIRFLOW
        return LocalAirflow(self.folder / "airflow", ROOT, environment)

    @property
    def lake(self) -> Path:
        """The lake's folder."""
        return self.cloud.storage.folder / "fruits-lake"

    @property
    def journal(self) -> Path:
        """EMR's journal."""
        return self.cloud.emr.journal.path

    def environment(self, caller: str) -> dict[str, str]:
        """Return what a process needs to work in the lab; EMR's journal shows it as *caller*."""
        return (
            self.cloud.environment()
            | {f"FRUITS_{name}": value for name, value in FRUITS.items()}
            | {
                "AWS_ENDPOINT_URL_EMR": self.emr.url,
                "AWS_ENDPOINT_URL_S3": self.s3.url,
                "PYICEBERG_CATALOG__FRUITS__S3__ENDPOINT": self.s3.url,
                "AWS_SDK_UA_APP_ID": caller,
                "FRUITS_CACHE_FOLDER": str(self.cache),
                "PYTHONPATH": os.pathsep.join(
                    str(ROOT / part) for part in ("plugins", "spark_jobs")
                ),
            }
        )

    def add_image(self) -> None:
        """Put one more image into the bucket."""
        folder = self.cloud.storage.folder / "fruits-images" / "fruits" / "Plum"
        folder.mkdir(parents=True, exist_ok=True)
        draw("Plum", self._images).save(folder / f"{self._images}.jpg", "JPEG")
        self._images += 1

    def tables(self) -> Tables:
        """Return what bucket and tables hold now, read past all proxies."""
        environment, start = self.cloud.environment(), "PYICEBERG_CATALOG__FRUITS__"
        known = {
            name.removeprefix(start).replace("__", ".").replace("_", "-").lower(): value
            for name, value in environment.items()
            if name.startswith(start)
        }
        return read_tables(load_catalog("fruits", **known), self.cloud.storage.folder)

    # --- runs ---

    def trigger(self, conf: Mapping[str, Any] | None = None) -> str:
        """Trigger the DAG and return the run's id."""
        body = {"logical_date": None, "conf": {"cap_minutes": ENOUGH} | dict(conf or {})}
        run = self.call("POST", f"dags/{INGESTION}/dagRuns", body)
        return str(run["dag_run_id"])

    def run_state(self, run: str) -> str:
        """Return the run's state, or "deleted"."""
        try:
            return str(self.call("GET", f"dags/{INGESTION}/dagRuns/{run}")["state"])
        except HTTPError as error:
            if error.code != 404:
                raise
            return "deleted"

    def task_states(self, run: str) -> dict[str, str]:
        """Return the state of each of the run's tasks."""
        return {task["task_id"]: task["state"] for task in self.tasks(run)}

    def tasks(self, run: str) -> list[dict[str, Any]]:
        """Return what the API says of each of the run's tasks."""
        path = f"dags/{INGESTION}/dagRuns/{run}/taskInstances?limit=100"
        return list(self.call("GET", path)["task_instances"])

    def unfinished_runs(self) -> list[str]:
        """Return the ids of the runs that work or wait."""
        path = f"dags/{INGESTION}/dagRuns?state=running&state=queued"
        return [run["dag_run_id"] for run in self.call("GET", path)["dag_runs"]]

    def set_run_state(self, run: str, state: str) -> None:
        """Mark the run, as in the UI."""
        self.call("PATCH", f"dags/{INGESTION}/dagRuns/{run}", {"state": state})

    def delete_run(self, run: str) -> None:
        """Delete a run that works, tasks, teardown and all.

        Airflow refuses that in the state "running", and marked failed a run keeps that state until
        its teardown is done. Marked queued, as the UI offers too, it can be deleted at once. The
        scheduler may end of that (StaleDataError): it is started again then, as by a supervisor.
        """
        self._is_supervised = True
        self.set_run_state(run, "queued")
        self.call("DELETE", f"dags/{INGESTION}/dagRuns/{run}")

    def clear(self, run: str, task: str) -> None:
        """Clear a task with what follows it, as in the UI."""
        scope = {"task_ids": [task], "include_downstream": True, "only_failed": False}
        body = {"dag_run_id": run, "dry_run": False, **scope}
        self.call("POST", f"dags/{INGESTION}/clearTaskInstances", body)

    def pause(self, paused: bool, dag: str = INGESTION) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"dags/{dag}", {"is_paused": paused})

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call Airflow's REST API; while its processes come back it may not answer, or answer 500.

        HTTPError is raised for what it refuses.
        """
        for _ in range(5):
            try:
                return self.airflow.call(method, path, body)
            except HTTPError as error:
                if error.code < 500:
                    raise
            except (URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(1)
        return self.airflow.call(method, path, body)

    def kill_task_process(self) -> None:
        """End the running task's own process as the kernel does when memory is short."""
        for process in self.airflow.processes("scheduler"):
            # The supervisor gives a task a process group of its own.
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getpgid(process.pid) == process.pid != os.getsid(process.pid):
                    process.kill()

    # --- what is broken ---

    def set_faults(self, *rules: Rule) -> None:
        """Let EMR and S3 fail by *rules*."""
        self.emr.set_rules([rule for rule in rules if rule["service"] == "emr"])
        self.s3.set_rules([rule for rule in rules if rule["service"] == "s3"])

    def replace_step(self, step: str, code: str) -> None:
        """Let clusters run *code* instead of the step's entry point, under its staged name."""
        self._replace(f"jobs/*/{step}.py", lambda _: code)

    def replace_bootstrap(self, script: str) -> None:
        """Let nodes run *script* instead of the bootstrap action, under its staged name."""
        self._replace("bootstrap/*/limit_lifetime.sh", lambda _: script)

    def slow_down_bootstrap(self, seconds: int) -> None:
        """Let the bootstrap action wait before it does what it does."""
        self._replace("bootstrap/*/limit_lifetime.sh", lambda was: f"sleep {seconds}\n{was}")

    def _replace(self, pattern: str, change: Callable[[str], str]) -> None:
        (file,) = self.lake.glob(pattern)
        self._replaced.setdefault(file, file.read_bytes())
        file.write_text(change(self._replaced[file].decode()))

    def take_capacity(self, *instance_types: str) -> None:
        """Let EMR find no machine of these types."""
        none = {market: list(instance_types) for market in ("ON_DEMAND", "SPOT")}
        draft = self._capacity.with_suffix(".new")
        draft.write_text(json.dumps(none))
        draft.replace(self._capacity)  # EMR may be looking

    def lose_airflow(self) -> None:
        """End all of Airflow at once, as a lost machine does; `restore` brings it back."""
        self.airflow.kill(*PROCESSES)

    def restore(self) -> None:
        """Undo every fault, end what still runs, and return when nothing does."""
        self.set_faults()
        if self._revive():
            self.airflow.wait_until_healthy()
        self._is_supervised = False
        self._capacity.unlink(missing_ok=True)
        for file, content in self._replaced.items():
            file.write_bytes(content)
        self._replaced.clear()
        self.pause(False)
        for run in self.unfinished_runs():
            with suppress(HTTPError):
                self.set_run_state(run, "failed")
        self.wait_until(lambda: not self.unfinished_runs(), 240, "no run")
        self._end_clusters()

    def wait_until(
        self, question: Callable[[], Any], seconds: float, what: str, every: float = 0.2
    ) -> Any:
        """Ask *every* so many seconds until the answer is true and return it.

        AssertionError after *seconds*, which says what Airflow and EMR were doing meanwhile;
        AirflowError at once, with the log, when one of Airflow's processes ended by itself.
        """
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            if self._is_supervised:
                self._revive()
            self.airflow.check_alive()
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{self._situation()}")
            time.sleep(every)
        return answer

    def _revive(self) -> list[str]:
        """Start what has ended of Airflow again; return the processes' names."""
        gone = [name for name in PROCESSES if not self.airflow.processes(name)]
        self.airflow.revive(*gone)
        return gone

    def _situation(self) -> str:
        try:
            return situation(self)
        except OSError as error:  # an API server that does not answer may be what is wrong
            return f"what is going on cannot be said: {error!r}"

    def live_clusters(self) -> list[str]:
        """Return the ids of the clusters that are alive or ending."""
        return [
            c["Id"]
            for c in self._emr.list_clusters(ClusterStates=[*LIVE, "TERMINATING"])["Clusters"]
        ]

    def protect(self, cluster_id: str) -> None:
        """Switch on termination protection."""
        self._emr.set_termination_protection(JobFlowIds=[cluster_id], TerminationProtected=True)

    def remove_idle_limit(self, cluster_id: str) -> None:
        """Let the cluster idle for ever."""
        self._emr.remove_auto_termination_policy(ClusterId=cluster_id)

    def run_again(self, cluster_id: str) -> str:
        """Send the request that made the cluster once more, and return the second one's id."""
        calls = journal.accepted_calls(self.journal, "RunJobFlow")
        made = next(one for one in calls if one["answer"]["JobFlowId"] == cluster_id)
        return str(self._emr.run_job_flow(**made["parameters"])["JobFlowId"])

    def renew_lease(self, token: str) -> None:
        """Write the lease once more, as it was."""
        file = max((self.lake / "leases").glob(f"{token}.*.json"))
        file.write_bytes(file.read_bytes())

    def steps(self, since: float, step: str) -> list[dict[str, Any]]:
        """Return the journal's entries of steps of that name, from *since* on."""
        return [
            entry
            for entry in journal.read(self.journal)
            if entry["kind"] == "step"
            and entry["time"] >= since
            and entry["name"].split()[0] == step
        ]

    @cached_property
    def _emr(self) -> Any:
        return boto3.client(
            "emr",
            region_name="eu-west-3",
            endpoint_url=self.cloud.emr.endpoint_url,
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
        )

    @property
    def _capacity(self) -> Path:
        return self.cloud.folder / "emr" / capacity.NAME

    def _end_clusters(self) -> None:
        for cluster_id in self.live_clusters():
            self._emr.set_termination_protection(
                JobFlowIds=[cluster_id], TerminationProtected=False
            )
            self._emr.terminate_job_flows(JobFlowIds=[cluster_id])
        self.wait_until(lambda: not self.live_clusters(), 240, "no cluster")


@contextmanager
def open_lab(folder: Path, cache: Path) -> Iterator[Lab]:
    """Run a Lab over *folder*, which is made anew; *cache* is its FRUITS_CACHE_FOLDER."""
    shutil.rmtree(folder, ignore_errors=True)
    with (
        LocalCloud(folder / "cloud") as cloud,
        FaultProxy(cloud.emr.endpoint_url) as emr,
        FaultProxy(cloud.storage.endpoint_url) as s3,
    ):
        lab = Lab(folder, cloud, emr, s3, cache)
        with lab.airflow:
            yield lab
