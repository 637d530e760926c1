"""Airflow on this machine: its four processes over SQLite, started and stopped together."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import psutil

from local_cloud.addresses import HeldPort, is_taken
from local_cloud.emr.processes import end_tree, session_of
from local_cloud.proxies import DIRECT

PROCESSES = {
    "api-server": ["api-server", "--workers", "1"],
    # Their log servers would listen on every address of the machine, at fixed ports; the API server
    # reads the logs' files.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}

# For the environment of one whose code does not change: a DAG file is parsed again once it is
# written to, not every half minute, which would take a twentieth of a core.
PARSED_ONCE = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600"}

HOME = Path(__file__).resolve().parents[1]  # of this package, for `python -m`
LOCAL_SETTINGS = Path(__file__).with_name("airflow_local_settings.py")

# Seconds. SQLite lets one process write at a time, and a scheduler whose write finds the database
# locked at last ends: the default of 5 s may pass where many processes share two cores.
WRITE_PATIENCE = 60

# Seconds until the database is migrated, and then until all processes are healthy.
MIGRATE_PATIENCE = 120
HEALTH_PATIENCE = 120

# In the environment of everything that an Airflow starts, its tasks included.
FOLDER_MARK = "LOCAL_AIRFLOW_FOLDER"


class AirflowError(RuntimeError):
    """Airflow did not start, or did not last; the message ends with the log of what failed."""


class LocalAirflow:
    """An Airflow whose DAGs and plugins are those of the repository at *root*.

    Metadata, logs and the generated secrets live under *folder*, so that runs survive a restart.
    *environment* is what its tasks need to find S3 and EMR; *local_settings* is the module that all
    its processes import as ``airflow_local_settings``. Anyone on this machine is an admin: it
    listens on 127.0.0.1 alone.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        environment: dict[str, str],
        port: int = 0,
        *,
        local_settings: Path = LOCAL_SETTINGS,
    ) -> None:
        self.folder = folder.resolve()
        self.root = root.resolve()
        self._held = None if port else HeldPort()
        self.port = self._held.number if self._held else port
        self._extra = environment
        self._local_settings = local_settings
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Where the UI and the REST API answer."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of Airflow's processes."""
        return os.environ | self._extra | self._settings()

    @property
    def command_settings(self) -> dict[str, str]:
        """What a shell's ``airflow`` command needs to find this Airflow; no secrets."""
        return {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.root / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
                f"sqlite:///{self.folder / 'airflow.db'}?timeout={WRITE_PATIENCE}"
            ),
        }

    def start(self, timeout: float = HEALTH_PATIENCE) -> Self:
        """Migrate the database, start the processes, return once all are healthy (*timeout* s).

        What an earlier one that was killed left over the folder is ended before.
        """
        end_left_over(self.folder)
        config = self.folder / "config"
        config.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._local_settings, config / LOCAL_SETTINGS.name)
        self._migrate()
        if is_taken(self.port):
            # Their answers would be taken for ours.
            raise AirflowError(f"Port {self.port} is in use: name a free one (make up PORT=8081)")
        try:
            for name, arguments in PROCESSES.items():
                self._running[name] = self._spawn(name, arguments)
            self.wait_until_healthy(timeout)
        except BaseException:  # an interruption, too, must leave no process
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process of this Airflow, running tasks included."""
        for process in self._running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()
        # A task has a process group of its own, and outlives a scheduler that was killed.
        end_left_over(self.folder)

    def kill(self, *names: str) -> None:
        """End processes of PROCESSES the way a lost machine does: at once, their tasks included."""
        # Stopped first: none may live to see another die, and tell the API server.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in (process for name in names for process in self.processes(name)):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        for name in names:
            self._running.pop(name).wait()

    def revive(self, *names: str) -> None:
        """Start processes that were killed again; it does not wait until they are healthy."""
        for name in names:
            self._running[name] = self._spawn(name, PROCESSES[name])

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return what the REST API answers to *method* on ``/api/v2``/*path*, as parsed JSON."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        return self._request(method, f"{self.url}/api/v2/{path}", data, headers)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _settings(self) -> dict[str, str]:
        return self.command_settings | {
            FOLDER_MARK: str(self.folder),
            # The titles that Airflow gives its processes would be written over the mark.
            "SPT_NOENV": "1",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            # The default of 32 forks as many idle processes of 150 MB.
            "AIRFLOW__CORE__PARALLELISM": "4",
            # A task's end is noticed after 5 s by default, if its sockets were closed a moment
            # before it was gone. A sensor that is looked at again meanwhile would count as failed.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            # A run is a chain of fourteen tasks, each of which waits for the scheduler to look.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__SECRET_KEY": self._secret(),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret(),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            # The defaults of 30 and 50 s may pass where a busy machine imports the provider.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "180",
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "240",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join([str(self.root / "plugins"), str(HOME)]),
        }

    def _secret(self) -> str:
        file = self.folder / "secret"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".new")  # half of a secret would be one for ever
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_hex(32))
            draft.replace(file)
        return file.read_text()

    def _migrate(self) -> None:
        try:
            done = subprocess.run(
                [*self._command("db"), "db", "migrate"],
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=MIGRATE_PATIENCE,
            )
        except subprocess.TimeoutExpired as error:
            raise AirflowError(f"airflow db migrate is not done after {error.timeout} s") from error
        if done.returncode:
            raise AirflowError(f"airflow db migrate failed: {done.stderr[-2000:]}")

    def _spawn(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            return subprocess.Popen(
                [*self._command(name), *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _command(self, name: str) -> list[str]:
        if name == "scheduler":  # whose forks are the tasks
            return [sys.executable, "-m", "local_cloud.preloaded"]
        return [str(Path(sys.executable).with_name("airflow"))]

    def wait_until_healthy(self, timeout: float = HEALTH_PATIENCE) -> None:
        """Return once all processes say so; AirflowError when one ended, or after *timeout* s."""
        deadline = time.monotonic() + timeout
        while True:
            self.check_alive()
            if self._healthy():
                return
            if time.monotonic() > deadline:
                raise AirflowError(f"Airflow is not healthy after {timeout:.0f} s: {self.folder}")
            time.sleep(0.5)

    def check_alive(self) -> None:
        """Raise AirflowError if a process ended that nobody killed: runs would wait for ever."""
        for name, process in self._running.items():
            if process.poll() is not None:
                tail = self._log(name).read_text(errors="replace")[-2000:]
                raise AirflowError(f"{name} ended with {process.returncode}:\n{tail}")

    def processes(self, name: str) -> list[psutil.Process]:
        """Return one of PROCESSES with everything that it started; none after its end."""
        if name not in self._running or self._running[name].poll() is not None:
            return []
        # Its session: all four have the mark.
        leader = self._running[name].pid
        return [process for process in psutil.process_iter() if session_of(process) == leader]

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _healthy(self) -> bool:
        try:
            health = self._request("GET", f"{self.url}/api/v2/monitor/health", None, {})
        except (OSError, ValueError):  # ValueError: an answer that is no JSON
            return False
        return all(part.get("status") == "healthy" for part in health.values())

    @cached_property
    def _token(self) -> str:
        return str(self._request("GET", f"{self.url}/auth/token", None, {})["access_token"])

    def _request(self, method: str, url: str, data: bytes | None, headers: dict[str, str]) -> Any:
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310
        with DIRECT.open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


def end_left_over(folder: Path) -> None:
    """End what still runs of an Airflow over *folder*: no two schedulers may share a database."""
    end_tree((FOLDER_MARK, str(folder.resolve())))
