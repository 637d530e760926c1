"""docker-compose.yaml for real: up from nothing, ingest through the REST API, restart, go.

It builds nothing: `make test-compose` builds the image, sets FRUITS_TEST_COMPOSE and runs this.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_cloud.addresses import HeldPort
from tests.compose.tool import compose_tool, variables

ROOT = Path(__file__).resolve().parents[2]
DAG = "dags/fruits_ingestion"
COUNTS = """
from fruits.lake import open_table, read
print(len(read("features").to_arrow()), len(read("components").to_arrow()),
      len(open_table("features").metadata.snapshots))
"""

pytestmark = [
    pytest.mark.skipif(
        "FRUITS_TEST_COMPOSE" not in os.environ,
        reason="containers are brought up by `make test-compose` alone: it takes minutes",
    ),
    pytest.mark.timeout(1800),
]


class Stack:
    """One project of docker-compose.yaml, with secrets and a port of its own."""

    def __init__(self, folder: Path) -> None:
        self._variables = folder / ".env"
        subprocess.run([ROOT / "docker" / "make_env.sh", self._variables], check=True)
        self.port = HeldPort().number  # let go at once, for Docker
        text = self._variables.read_text().replace("AIRFLOW_PORT=8080", f"AIRFLOW_PORT={self.port}")
        self._variables.write_text(text)
        self._secrets = variables(self._variables)

    def compose(self, *arguments: str) -> str:
        """Run one compose command and return what it printed."""
        chosen = ["--project-name", "fruits-test", "--env-file", str(self._variables)]
        tool = compose_tool() or ["docker", "compose"]  # whose absence is told by name
        command = [*tool, "--file", str(ROOT / "docker-compose.yaml"), *chosen]
        done = subprocess.run(
            [*command, "--profile", "local", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer of the REST API, as the admin of .env."""
        admin = {"username": "admin", "password": self._secrets["AIRFLOW_ADMIN_PASSWORD"]}
        token = self._request("POST", "auth/token", admin)["access_token"]
        return self._request(method, f"api/v2/{path}", body, token)

    def health(self) -> dict[str, str]:
        """Return the health of every container that runs, by service; init has ended by then."""
        label = '{{index .Config.Labels "com.docker.compose.service"}}'
        form = f"{label} {{{{if .State.Running}}}}{{{{.State.Health.Status}}}}{{{{end}}}}"
        containers = self.compose("ps", "-q").split()
        shown = subprocess.run(
            ["docker", "inspect", "--format", form, *containers],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        lines = (line.split() for line in shown.stdout.splitlines())
        return {line[0]: line[1] for line in lines if len(line) == 2}

    def wait_until_healthy(self) -> None:
        """Return once all six services are healthy."""
        wait_for(lambda: list(self.health().values()) == ["healthy"] * 6, 300)

    def ingest(self) -> dict[str, str]:
        """Trigger the DAG and return how each task ended."""
        wait_for(
            lambda: any(dag["dag_id"] == DAG[5:] for dag in self.call("GET", "dags")["dags"]), 120
        )
        self.call("PATCH", DAG, {"is_paused": False})
        run = self.call("POST", f"{DAG}/dagRuns", {"logical_date": None})
        path = f"{DAG}/dagRuns/{run['dag_run_id']}"
        wait_for(lambda: self.call("GET", path)["state"] in ("success", "failed"), 600)
        tasks = self.call("GET", f"{path}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}

    def counts(self) -> list[int]:
        """Return rows of features, rows of components, and snapshots of features."""
        said = self.compose("exec", "-T", "scheduler", "python", "-c", COUNTS)
        return [int(number) for number in said.split()]

    def _request(self, method: str, path: str, body: Any, token: str = "") -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{self.port}/{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


def wait_for(question: Any, seconds: float) -> None:
    """Return once *question* answers true; a container that restarts answers nothing meanwhile."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if question():
                return
        except OSError:
            pass
        time.sleep(2)
    pytest.fail(f"not within {seconds:.0f} s")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Bring everything up from nothing; leave no container, network or volume behind."""
    stack = Stack(tmp_path)
    try:
        stack.compose("up", "--detach", "--no-build")
        stack.wait_until_healthy()
        yield stack
    finally:
        # pytest shows it when the test fails.
        print(stack.compose("ps"), stack.compose("logs", "--tail=50"))  # noqa: T201
        stack.compose("down", "--volumes", "--timeout", "60")


def test_ingestion_survives_a_restart(stack: Stack) -> None:
    """The sample becomes features and components; a new set of containers finds them all."""
    first = stack.ingest()
    before = stack.counts()
    stack.compose("down", "--timeout", "60")
    stack.compose("up", "--detach", "--no-build")
    stack.wait_until_healthy()
    again = stack.ingest()

    assert set(first.values()) == {"success"}
    assert before[:2] == [25, 25]
    assert stack.counts() == before
    # Nothing is new: no cluster, and the history of the first run is still there.
    assert again["sense_changes"] == "skipped"
    assert again["create_cluster"] == "skipped"
    assert stack.call("GET", f"{DAG}/dagRuns")["total_entries"] == 2
