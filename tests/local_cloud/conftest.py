"""What the tests of the local cloud share: a running cloud, clients, requests that are right."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from local_cloud.cloud import LocalCloud

JobFlow = Callable[..., dict[str, Any]]
WaitFor = Callable[..., Any]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """Run a cloud over an empty folder, with this process's environment set for its clients."""
    # The space is meant: folders have them.
    with LocalCloud(tmp_path / "a cloud") as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def emr(cloud: LocalCloud) -> Any:
    """Return an EMR client of the running cloud."""
    return boto3.client("emr")


@pytest.fixture
def s3(cloud: LocalCloud) -> Any:
    """Return an S3 client of the running cloud."""
    return boto3.client("s3")


@pytest.fixture
def job_flow() -> JobFlow:
    """Return a maker of RunJobFlow requests: the smallest that EMR takes, with changes on top."""

    def make(**changes: Any) -> dict[str, Any]:
        instances = {
            "InstanceGroups": [
                {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}
            ],
            "KeepJobFlowAliveWhenNoSteps": True,
        } | changes.pop("Instances", {})
        return {
            "Name": "test",
            "ReleaseLabel": "emr-spark-8.1.0",
            "LogUri": "s3://fruits-lake/logs/",
            "JobFlowRole": "EMR_EC2_DefaultRole",
            "ServiceRole": "EMR_DefaultRole_V2",
            "Instances": instances,
        } | changes

    return make


@pytest.fixture
def step() -> Callable[..., dict[str, Any]]:
    """Return a maker of StepConfigs that run a bash command."""

    def make(command: str, action: str = "CONTINUE", name: str = "a step") -> dict[str, Any]:
        return {
            "Name": name,
            "ActionOnFailure": action,
            "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["bash", "-c", command]},
        }

    return make


@pytest.fixture
def wait_for() -> WaitFor:
    """Return a function that asks until the answer is true, and returns it."""

    def wait(question: Callable[[], Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answer := question():
                return answer
            time.sleep(0.02)
        pytest.fail(f"not within {seconds} s: {question}")

    return wait


@pytest.fixture
def cluster_in(emr: Any, wait_for: WaitFor) -> Callable[..., dict[str, Any]]:
    """Return a function that waits for a cluster's state and returns the cluster."""

    def wait(cluster_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            cluster: dict[str, Any] = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]
            return cluster if cluster["Status"]["State"] in states else None

        return wait_for(reached, seconds)

    return wait


@pytest.fixture
def ready(emr: Any, job_flow: JobFlow, cluster_in: Callable[..., Any]) -> str:
    """Return the id of a cluster that waits for steps."""
    cluster_id: str = emr.run_job_flow(**job_flow())["JobFlowId"]
    cluster_in(cluster_id, "WAITING")
    return cluster_id


@pytest.fixture
def step_in(emr: Any, wait_for: WaitFor) -> Callable[..., dict[str, Any]]:
    """Return a function that waits for a step's state and returns the step."""

    def wait(cluster_id: str, step_id: str, *states: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            found: dict[str, Any] = emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]
            return found if found["Status"]["State"] in states else None

        return wait_for(reached)

    return wait


@pytest.fixture
def read_log(s3: Any) -> Callable[[str], str]:
    """Return a function that reads a gzipped log of the lake by its key."""

    def read(key: str) -> str:
        body = s3.get_object(Bucket="fruits-lake", Key=key)["Body"].read()
        return gzip.decompress(body).decode()

    return read
