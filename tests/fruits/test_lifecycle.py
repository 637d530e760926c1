"""A cluster's life at a real EMR endpoint: found again, made once, told why it failed, ended."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.exceptions import ClientError

from fruits.clusters import TOKEN_TAG, cluster_name
from fruits.lifecycle import (
    ClusterFailedError,
    StepFailedError,
    WaitTimeoutError,
    add_step,
    await_cluster,
    create_cluster,
    emr_client,
    find_cluster,
    find_clusters,
    lifetime,
    run_step,
    terminate_cluster,
)
from local_cloud.cloud import LocalCloud
from local_cloud.emr.journal import accepted_calls

REGION = "eu-west-3"
POLL = 0.05


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run one S3 and one EMR for the module; their clients in this process find them by env."""
    folder = tmp_path_factory.mktemp("cloud")
    with LocalCloud(folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment().items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def emr(cloud: LocalCloud) -> Any:
    """Return the client that the library uses."""
    return emr_client(REGION)


@pytest.fixture(scope="module")
def waiting(cloud: LocalCloud) -> str:
    """Return the id of a cluster that waits for steps."""
    cluster_id = create_cluster(REGION, request("waiting"), "waiting")
    await_cluster(emr_client(REGION), cluster_id, timeout=30, poll=POLL)
    return cluster_id


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


@contextmanager
def losing_answers(target: str, action: str, lost: int = 1) -> Iterator[str]:
    """Pass requests on to *target*, but drop the first answers to *action*; yield its URL."""
    left = [lost]
    lock = threading.Lock()

    class Forward(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {key: value for key, value in self.headers.items() if key != "Host"}
            with urlopen(Request(target, body, headers)) as answer:
                content, kind = answer.read(), answer.headers["Content-Type"]
            with lock:
                drop = left[0] > 0 and self.headers["X-Amz-Target"].endswith(f".{action}")
                left[0] -= drop
            if drop:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class TestCreating:
    """One token, one cluster."""

    def test_a_live_cluster_is_adopted(self, cloud: LocalCloud) -> None:
        """Who asks again for the cluster of a token gets the same one."""
        first = create_cluster(REGION, request("adopted"), "adopted")

        assert create_cluster(REGION, request("adopted"), "adopted") == first
        assert calls(cloud, "RunJobFlow", "'fruits adopted'") == 1

    def test_a_cluster_that_has_ended_is_replaced(self, emr: Any) -> None:
        """Only a live cluster is adopted; the one that ended is still found by its token."""
        first = create_cluster(REGION, request("again"), "again")
        terminate_cluster(emr, first, timeout=30, poll=POLL)

        second = create_cluster(REGION, request("again"), "again")

        assert second != first
        assert set(find_clusters(emr, "again")) == {first, second}

    def test_the_tag_counts_and_not_the_name_alone(self, emr: Any) -> None:
        """A cluster that somebody named like ours is not ours."""
        emr.run_job_flow(**request("namesake", Tags=[{"Key": TOKEN_TAG, "Value": "another"}]))

        assert find_cluster(emr, "namesake") is None

    def test_a_lost_answer_makes_no_second_cluster(
        self, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RunJobFlow is sent once; the cluster whose id got lost is found by its token."""
        target = cloud.emr.endpoint_url
        with losing_answers(target, "RunJobFlow") as url:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", url)
            found = create_cluster(REGION, request("lost"), "lost")

        assert found == find_cluster(boto3.client("emr", endpoint_url=target), "lost")
        assert calls(cloud, "RunJobFlow", "'fruits lost'") == 1

    def test_the_proxy_really_loses_answers(
        self, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without this guard the same loss makes a second cluster: botocore sends again."""
        with losing_answers(cloud.emr.endpoint_url, "RunJobFlow") as url:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", url)
            emr_client(REGION).run_job_flow(**request("twice"))

        assert calls(cloud, "RunJobFlow", "'fruits twice'") == 2


class TestWaiting:
    """A cluster that is ready, or the reason why it is not."""

    def test_a_failed_bootstrap_tells_its_reason(self, emr: Any) -> None:
        """The error names the cluster, why it ended, and where its logs are."""
        boto3.client("s3").put_object(Bucket="fruits-lake", Key="broken.sh", Body=b"exit 3")
        action = {"Path": "s3://fruits-lake/broken.sh"}
        broken = [{"Name": "broken", "ScriptBootstrapAction": action}]
        cluster_id = create_cluster(REGION, request("broken", BootstrapActions=broken), "broken")

        with pytest.raises(ClusterFailedError) as failure:
            await_cluster(emr, cluster_id, timeout=30, poll=POLL)

        assert failure.value.cluster_id == cluster_id
        assert "BOOTSTRAP_FAILURE" in failure.value.reason
        assert failure.value.log_uri == f"s3://fruits-lake/logs/{cluster_id}/"

    def test_a_wait_has_an_end(self, emr: Any) -> None:
        """A cluster that does not get ready in time is an error with the time."""
        boto3.client("s3").put_object(Bucket="fruits-lake", Key="slow.sh", Body=b"sleep 60")
        action = {"Path": "s3://fruits-lake/slow.sh"}
        slow = [{"Name": "slow", "ScriptBootstrapAction": action}]
        cluster_id = create_cluster(REGION, request("slow", BootstrapActions=slow), "slow")

        with pytest.raises(WaitTimeoutError) as failure:
            await_cluster(emr, cluster_id, timeout=0.2, poll=POLL)

        assert failure.value.seconds == 0.2


class TestSteps:
    """A step runs once, and nobody leaves it alone."""

    def test_a_completed_step_returns_its_id(self, emr: Any, waiting: str) -> None:
        """The progress is asked for at each look."""
        looks: list[None] = []

        step_id = run_step(
            emr,
            waiting,
            step("true", "fine"),
            timeout=30,
            poll=POLL,
            on_poll=lambda: looks.append(None),
        )

        assert step_state(emr, waiting, step_id) == "COMPLETED"
        assert looks

    def test_a_failed_step_says_why_and_where(self, emr: Any, waiting: str) -> None:
        """The step's own explanation comes before EMR's, with the folder of its logs."""
        with pytest.raises(StepFailedError) as failure:
            run_step(
                emr,
                waiting,
                step("exit 1", "failing"),
                timeout=30,
                poll=POLL,
                explain=lambda: "The lemons are sour",
            )

        assert failure.value.reason == "The lemons are sour"
        folder = f"s3://fruits-lake/logs/{waiting}/steps/{failure.value.step_id}/"
        assert failure.value.log_uri == folder

    def test_a_wait_that_gives_up_cancels_the_step(self, emr: Any, waiting: str) -> None:
        """A step that nobody waits for must not run on."""
        with pytest.raises(WaitTimeoutError):
            run_step(emr, waiting, step("sleep 300", "hanging"), timeout=0.5, poll=POLL)

        (hanging,) = (s for s in emr.list_steps(ClusterId=waiting)["Steps"] if "hang" in s["Name"])
        until(lambda: step_state(emr, waiting, hanging["Id"]) == "CANCELLED")

    def test_a_lost_answer_adds_no_second_step(
        self, cloud: LocalCloud, waiting: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step that ran twice would write over files that the first run's commit registered."""
        with losing_answers(cloud.emr.endpoint_url, "AddJobFlowSteps") as url:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", url)
            step_id = add_step(emr_client(REGION), waiting, step("true", "once"))
        direct = boto3.client("emr", endpoint_url=cloud.emr.endpoint_url)

        assert direct.describe_step(ClusterId=waiting, StepId=step_id)["Step"]["Name"] == "once"
        assert calls(cloud, "AddJobFlowSteps", "'once'") == 1

    def test_a_step_that_was_not_added_is_an_error(self, emr: Any) -> None:
        """What EMR refuses, and nobody finds, did not happen."""
        with pytest.raises(ClientError, match="j-NONE"):
            add_step(emr, "j-NONE", step("true", "nowhere"))


class TestEnding:
    """An end that is asked for twice is still one end."""

    def test_a_protected_cluster_ends_too(self, emr: Any) -> None:
        """Termination protection is taken off first; the description says how long it lived."""
        instances = request("x")["Instances"] | {"TerminationProtected": True}
        made = request("protected", Instances=instances)
        cluster_id = create_cluster(REGION, made, "protected")

        ended = terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        assert ended["Status"]["State"] == "TERMINATED"
        assert 0 <= lifetime(ended) < 60

    def test_ending_what_has_ended_is_fine(self, emr: Any) -> None:
        """A teardown that is repeated finds its cluster gone, and that is what it wanted."""
        cluster_id = create_cluster(REGION, request("gone"), "gone")
        first = terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        again = terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        assert again["Status"]["State"] == "TERMINATED"
        assert lifetime(again) == lifetime(first)


def step_state(emr: Any, cluster_id: str, step_id: str) -> str:
    """Return the step's state."""
    described = emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]
    return str(described["Status"]["State"])


def until(question: Callable[[], bool], seconds: float = 20) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(POLL)
