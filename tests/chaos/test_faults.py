"""The proxies themselves: without a rule they change nothing, with one the fault is AWS's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import boto3
import obstore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from obstore.store import S3Store

from local_cloud.cloud import LocalCloud
from local_cloud.emr.journal import accepted_calls
from tests.chaos.faults import LOST, FaultProxy, answering, failing, held, resetting, throttling

ONCE = Config(retries={"total_max_attempts": 1})
REQUEST = {
    "Name": "test",
    "ReleaseLabel": "emr-spark-8.1.0",
    "JobFlowRole": "EMR_EC2_DefaultRole",
    "ServiceRole": "EMR_DefaultRole_V2",
    "Instances": {
        "InstanceGroups": [
            {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}
        ]
    },
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run a cloud; clients in this process have its keys."""
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as running, pytest.MonkeyPatch.context() as p:
        for name, value in running.environment().items():
            p.setenv(name, value)
        yield running


@pytest.fixture
def emr(cloud: LocalCloud) -> Iterator[tuple[FaultProxy, Any]]:
    """Return a proxy before EMR, and a client that sends nothing twice."""
    with FaultProxy(cloud.emr.endpoint_url) as proxy:
        yield proxy, boto3.client("emr", endpoint_url=proxy.url, config=ONCE)


@pytest.fixture
def s3(cloud: LocalCloud) -> Iterator[tuple[FaultProxy, Any]]:
    """Return a proxy before S3, and a client that sends nothing twice."""
    with FaultProxy(cloud.storage.endpoint_url) as proxy:
        yield proxy, boto3.client("s3", endpoint_url=proxy.url, config=ONCE)


@pytest.mark.parametrize("key", ["plain.txt", "Pommes d'été/é à%20b (1)#2.txt", "x+y=z&w~'.txt"])
def test_keys_pass_unharmed(s3: tuple[FaultProxy, Any], key: str) -> None:
    """Accents, spaces and percent signs keep their bytes, and every signature stays valid."""
    proxy, client = s3
    content = b"0123456789" * 300_000

    client.put_object(Bucket="fruits-lake", Key=key, Body=content)
    store = S3Store("fruits-lake", endpoint=proxy.url, client_options={"allow_http": True})

    assert client.head_object(Bucket="fruits-lake", Key=key)["ContentLength"] == len(content)
    assert client.get_object(Bucket="fruits-lake", Key=key)["Body"].read() == content
    assert bytes(obstore.get(store, key).bytes()) == content
    listed = client.list_objects_v2(Bucket="fruits-lake", Prefix=key)["Contents"]
    assert [found["Key"] for found in listed] == [key]


def test_throttling_is_each_services_own(
    emr: tuple[FaultProxy, Any], s3: tuple[FaultProxy, Any]
) -> None:
    """EMR throttles one operation with 400 and JSON, S3 with 503 and XML; others go through."""
    emr[0].set_rules([throttling("emr", operation="DescribeCluster")])
    s3[0].set_rules([throttling("s3")])

    with pytest.raises(ClientError) as of_emr:
        emr[1].describe_cluster(ClusterId="j-ABCDEFGHIJKL")
    with pytest.raises(ClientError) as of_s3:
        s3[1].put_object(Bucket="fruits-lake", Key="a", Body=b"a")
    assert error_of(of_emr.value) == ("ThrottlingException", 400)
    assert error_of(of_s3.value) == ("SlowDown", 503)
    assert emr[1].list_clusters()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_failures_reach_the_client_and_not_the_service(
    cloud: LocalCloud, emr: tuple[FaultProxy, Any]
) -> None:
    """A 500 and a reset connection come from the proxy: EMR never sees those calls."""
    proxy, client = emr
    before = created(cloud)

    proxy.set_rules([failing("emr", times=1), resetting("emr", times=1)])

    with pytest.raises(ClientError) as failed:
        client.run_job_flow(**REQUEST)
    with pytest.raises(ConnectionClosedError):
        client.run_job_flow(**REQUEST)
    assert error_of(failed.value) == ("InternalServerError", 500)
    assert created(cloud) == before
    assert proxy.fired == 2


def test_a_lost_answer_is_to_a_request_that_was_carried_out(
    cloud: LocalCloud, emr: tuple[FaultProxy, Any]
) -> None:
    """The client sees a broken connection, EMR made one cluster; the next call is whole."""
    proxy, client = emr
    before = created(cloud)

    proxy.set_rules([answering("emr", LOST, operation="RunJobFlow", times=1)])

    with pytest.raises(ConnectionClosedError):
        client.run_job_flow(**REQUEST)
    assert created(cloud) == before + 1
    assert client.run_job_flow(**REQUEST)["JobFlowId"]


def test_a_held_answer_comes_late(cloud: LocalCloud, emr: tuple[FaultProxy, Any]) -> None:
    """The call is carried out at once, its answer arrives after the time asked for."""
    proxy, client = emr
    proxy.set_rules([answering("emr", held(1.0), operation="ListClusters")])

    client.list_clusters()
    answered = time.time()

    *_, call = accepted_calls(cloud.emr.journal.path, "ListClusters")
    assert answered - call["time"] >= 0.99


def error_of(error: ClientError) -> tuple[str, int]:
    """Return an error's code and HTTP status."""
    return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]


def created(cloud: LocalCloud) -> int:
    """Count the clusters that EMR made."""
    return len(accepted_calls(cloud.emr.journal.path, "RunJobFlow"))
