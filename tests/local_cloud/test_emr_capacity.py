"""Machines that cannot be had: a cluster waits for them as long as somebody lets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from local_cloud.cloud import LocalCloud
from local_cloud.emr import capacity, journal

CORE = {
    "InstanceGroups": [
        {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1},
        {
            "InstanceRole": "CORE",
            "InstanceType": "c5.xlarge",
            "InstanceCount": 2,
            "Market": "SPOT",
        },
    ]
}


@pytest.fixture
def scarce(cloud: LocalCloud) -> Callable[[dict[str, list[str]]], None]:
    """Return a function that says which types cannot be had, by market."""

    def write(none: dict[str, list[str]]) -> None:
        draft = cloud.folder / "emr" / "draft"
        draft.write_text(json.dumps(none))
        draft.replace(cloud.folder / "emr" / capacity.NAME)

    return write


def test_cluster_starts_when_capacity_comes_back(
    emr: Any, job_flow: Any, cluster_in: Any, scarce: Any
) -> None:
    """Without one of its types in its market a cluster stays in STARTING, until it can be had."""
    scarce({"SPOT": ["c5.xlarge"]})
    cluster_id = emr.run_job_flow(**job_flow(Instances=CORE))["JobFlowId"]
    with pytest.raises(pytest.fail.Exception):
        cluster_in(cluster_id, "BOOTSTRAPPING", "WAITING", seconds=1)
    fleet = emr.list_instances(ClusterId=cluster_id)["Instances"]

    scarce({"ON_DEMAND": ["c5.xlarge"]})

    assert {one["Status"]["State"] for one in fleet} == {"PROVISIONING"}
    cluster_in(cluster_id, "WAITING")


def test_waiting_cluster_can_be_terminated(
    emr: Any, job_flow: Any, cluster_in: Any, scarce: Any, cloud: LocalCloud
) -> None:
    """A cluster that waits for machines ends like any other, and its wait fails nothing."""
    scarce({"ON_DEMAND": ["m5.xlarge"]})
    cluster_id = emr.run_job_flow(**job_flow())["JobFlowId"]

    emr.terminate_job_flows(JobFlowIds=[cluster_id])

    ended = cluster_in(cluster_id, "TERMINATED")
    assert ended["Status"]["StateChangeReason"]["Code"] == "USER_REQUEST"
    assert "ReadyDateTime" not in ended["Status"]["Timeline"]
    notes = [one for one in journal.read(cloud.emr.journal.path) if one.get("problem")]
    assert notes == []
