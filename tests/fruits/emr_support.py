"""What tests of EMR's clients share: small requests, looks at the journal, a proxy that spoils."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from fruits.clusters import TOKEN_TAG, cluster_name
from local_cloud.cloud import LocalCloud
from local_cloud.emr.journal import accepted_calls

REGION = "eu-west-3"
POLL = 0.05
THROTTLED = {"__type": "ThrottlingException", "message": "Rate exceeded"}


@contextmanager
def cloud_in_environment(folder: Path) -> Iterator[LocalCloud]:
    """Run one S3 and one EMR over *folder*; clients in this process find them by env."""
    with LocalCloud(folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment().items():
            patch.setenv(name, value)
        yield running


def request(token: str, **changes: Any) -> dict[str, Any]:
    """Return a small RunJobFlow request with our name and tag."""
    machine = {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}
    return {
        "Name": cluster_name(token),
        "ReleaseLabel": "emr-spark-8.1.0",
        "LogUri": "s3://fruits-lake/logs/",
        "JobFlowRole": "EMR_EC2_DefaultRole",
        "ServiceRole": "EMR_DefaultRole_V2",
        "Instances": {"InstanceGroups": [machine], "KeepJobFlowAliveWhenNoSteps": True},
        "Tags": [{"Key": TOKEN_TAG, "Value": token}],
    } | changes


def step(command: str, name: str) -> dict[str, Any]:
    """Return a StepConfig that runs a shell command."""
    jar = {"Jar": "command-runner.jar", "Args": ["bash", "-c", command]}
    return {"Name": name, "ActionOnFailure": "CONTINUE", "HadoopJarStep": jar}


def calls(cloud: LocalCloud, action: str, mentioning: str) -> int:
    """Count the accepted calls of *action* whose parameters mention a text."""
    journal = accepted_calls(cloud.folder / "emr" / "journal.jsonl", action)
    return sum(mentioning in str(call["parameters"]) for call in journal)


def step_state(emr: Any, cluster_id: str, step_id: str) -> str:
    """Return the step's state."""
    described = emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]
    return str(described["Status"]["State"])


def cluster_state(emr: Any, cluster_id: str) -> str:
    """Return the cluster's state."""
    return str(emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]["State"])


def until(question: Callable[[], bool], seconds: float = 60) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(POLL)


class Fates:
    """What becomes of the next request of each action, and how many of each there were."""

    def __init__(self, **plans: Mapping[str, int] | None) -> None:
        self.received: Counter[str] = Counter()
        self._left = {fate: Counter(plan or {}) for fate, plan in plans.items()}
        self._lock = threading.Lock()

    def next(self, action: str) -> str:
        """Return lose, swallow or throttle while such are left for *action*, then pass."""
        with self._lock:
            self.received[action] += 1
            fate = next((name for name, left in self._left.items() if left[action] > 0), "pass")
            if fate != "pass":
                self._left[fate][action] -= 1
            return fate


class Spoiler(NamedTuple):
    """Where clients go, and how often each action was sent there."""

    url: str
    received: Counter[str]


@contextmanager
def spoiling(
    target: str,
    *,
    lose: Mapping[str, int] | None = None,
    swallow: Mapping[str, int] | None = None,
    throttle: Mapping[str, int] | None = None,
    meanwhile: Mapping[str, Callable[[], None]] | None = None,
) -> Iterator[Spoiler]:
    """Pass requests on to the EMR endpoint *target*, but spoil the first ones of some actions.

    *lose*: it is carried out, but the connection closes without an answer. *swallow*: the
    connection closes and nothing is carried out. *throttle*: it is refused. *meanwhile*: what
    happens elsewhere while a request of that action is on its way.
    """
    fates = Fates(lose=lose, swallow=swallow, throttle=throttle)

    class Handler(_Forward):
        pass

    Handler.target, Handler.fates, Handler.meanwhile = target, fates, meanwhile or {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Spoiler(f"http://127.0.0.1:{server.server_address[1]}", fates.received)
        finally:
            server.shutdown()
            thread.join()


class _Forward(BaseHTTPRequestHandler):
    target: str
    fates: Fates
    meanwhile: Mapping[str, Callable[[], None]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        action = self.headers["X-Amz-Target"].rpartition(".")[2]
        fate = self.fates.next(action)
        if action in self.meanwhile:
            self.meanwhile[action]()
        if fate == "throttle":
            self._answer(400, json.dumps(THROTTLED).encode())
            return
        status, content = (0, b"") if fate == "swallow" else self._forward(body)
        if fate == "pass":
            self._answer(status, content)
            return
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        headers = {key: value for key, value in self.headers.items() if key != "Host"}
        try:
            with urlopen(Request(self.target, body, headers)) as answer:
                return answer.status, answer.read()
        except HTTPError as refusal:
            return refusal.code, refusal.read()

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing."""
