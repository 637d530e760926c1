"""EMR's protocol through boto3: what each action answers, and what is refused, by name."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local_cloud.cloud import LocalCloud
from local_cloud.emr import journal
from local_cloud.emr.actions import ACTIONS
from local_cloud.emr.errors import ValidationError
from local_cloud.emr.protocol import check
from local_cloud.emr.server import EmrEndpoint
from local_cloud.emr.supported import HONOURED
from tests.fruits.emr_support import cloud_in_environment

FLEETS = {
    "InstanceGroups": [],
    "InstanceFleets": [
        {
            "InstanceFleetType": "MASTER",
            "TargetOnDemandCapacity": 1,
            "InstanceTypeConfigs": [{"InstanceType": "m5.xlarge"}],
        },
        {
            "InstanceFleetType": "CORE",
            "TargetOnDemandCapacity": 2,
            "TargetSpotCapacity": 6,
            "InstanceTypeConfigs": [{"InstanceType": "m5.2xlarge", "WeightedCapacity": 2}],
            "LaunchSpecifications": {
                "SpotSpecification": {
                    "TimeoutDurationMinutes": 10,
                    "TimeoutAction": "SWITCH_TO_ON_DEMAND",
                }
            },
        },
    ],
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Share one cloud: what other tests have left in it changes no answer."""
    with cloud_in_environment(tmp_path_factory.mktemp("a cloud")) as running:
        yield running


def clusters(emr: Any) -> list[str]:
    """Return the ids of the newest clusters."""
    return [cluster["Id"] for cluster in emr.list_clusters()["Clusters"]]


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
    """Return the code and message with which EMR refuses *call*."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture
def raw() -> Any:
    """Return an EMR client that leaves all validation to the server."""
    from botocore.config import Config

    return boto3.client("emr", config=Config(parameter_validation=False))


def test_every_supported_action_is_carried_out() -> None:
    """The list of supported parameters and the table of actions name the same actions."""
    assert set(HONOURED) == set(ACTIONS)


def test_run_job_flow_and_describe(emr: Any, job_flow: Any, cluster_in: Any) -> None:
    """RunJobFlow makes a cluster that becomes ready and shows what was asked for."""
    asked = job_flow(
        Applications=[{"Name": "Spark"}],
        Tags=[{"Key": "token", "Value": "t-1"}],
        Configurations=[{"Classification": "spark", "Properties": {"x": "1"}}],
        StepConcurrencyLevel=3,
        EbsRootVolumeSize=20,
    )
    answer = emr.run_job_flow(**asked)
    cluster = cluster_in(answer["JobFlowId"], "WAITING")

    assert cluster["ClusterArn"] == answer["ClusterArn"]
    assert cluster["Applications"] == [{"Name": "Spark", "Version": "4.1.1"}]
    assert cluster["Tags"] == asked["Tags"]
    assert cluster["Configurations"] == asked["Configurations"]
    assert (cluster["StepConcurrencyLevel"], cluster["EbsRootVolumeSize"]) == (3, 20)
    assert cluster["InstanceCollectionType"] == "INSTANCE_GROUP"
    timeline = cluster["Status"]["Timeline"]
    assert timeline["CreationDateTime"] <= timeline["ReadyDateTime"] <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ReleaseLabel": "emr-1.0"}, "emr-1.0"),
        ({"AutoTerminationPolicy": {"IdleTimeout": 59}}, "IdleTimeout"),
        ({"AutoTerminationPolicy": {"IdleTimeout": 604801}}, "IdleTimeout"),
        ({"StepConcurrencyLevel": 257}, "StepConcurrencyLevel"),
        ({"LogUri": "hdfs:///logs"}, "LogUri"),
        ({"Name": "a" * 257}, "Name"),
        ({"ScaleDownBehavior": "NEVER"}, "ScaleDownBehavior"),
        ({"ServiceRole": ""}, "ServiceRole"),
        ({"AmiVersion": "3.8"}, "AmiVersion"),
        ({"Instances": {"HadoopVersion": "3"}}, "Instances.HadoopVersion"),
        ({"Tags": [{"Key": "", "Value": "x"}]}, "Tags"),
        ({"Instances": FLEETS | {"MasterInstanceType": "m5.xlarge"}}, "InstanceFleets"),
        ({"Instances": {"InstanceGroups": []}}, "InstanceGroups"),
        ({"StepConcurrencyLevel": "two"}, "StepConcurrencyLevel"),
    ],
)
def test_run_job_flow_refuses_by_name(
    emr: Any, raw: Any, job_flow: Any, change: dict[str, Any], named: str
) -> None:
    """A value or parameter that cannot be honoured is a ValidationException that names it."""
    before = clusters(emr)

    code, message = refusal(raw.run_job_flow, **job_flow(**change))

    assert code == "ValidationException"
    assert named in message
    assert clusters(emr) == before


@pytest.mark.parametrize(
    ("jar", "args", "named"),
    [
        ("s3://bucket/my.jar", ["x"], "my.jar"),
        ("command-runner.jar", ["hive", "-e"], "hive -e"),
        ("command-runner.jar", ["bash", "script.sh"], "bash script.sh"),
        ("command-runner.jar", [], "Args"),
    ],
)
def test_steps_that_cannot_run_are_refused(
    emr: Any, ready: str, jar: str, args: list[str], named: str
) -> None:
    """Only spark-submit and bash -c through command-runner.jar are steps here."""
    config = {"Name": "x", "HadoopJarStep": {"Jar": jar, "Args": args}}
    code, message = refusal(emr.add_job_flow_steps, JobFlowId=ready, Steps=[config])

    assert code == "ValidationException"
    assert named in message


@pytest.mark.parametrize("action", ["TERMINATE_CLUSTER", "CANCEL_AND_WAIT"])
def test_concurrent_steps_must_continue(emr: Any, job_flow: Any, step: Any, action: str) -> None:
    """With StepConcurrencyLevel above 1, EMR refuses steps that act on the whole cluster."""
    cluster_id = emr.run_job_flow(**job_flow(StepConcurrencyLevel=2))["JobFlowId"]
    code, message = refusal(
        emr.add_job_flow_steps, JobFlowId=cluster_id, Steps=[step("true", action)]
    )

    assert code == "ValidationException"
    assert action in message


def test_list_steps_filters_and_pages(emr: Any, ready: str, step: Any, step_in: Any) -> None:
    """ListSteps gives 50 a page, newest first, and filters by id and state."""
    configs = [step("true", name=str(number)) for number in range(51)]
    ids = emr.add_job_flow_steps(JobFlowId=ready, Steps=configs)["StepIds"]
    step_in(ready, ids[-1], "COMPLETED")

    first = emr.list_steps(ClusterId=ready)
    second = emr.list_steps(ClusterId=ready, Marker=first["Marker"])
    assert [found["Id"] for found in first["Steps"] + second["Steps"]] == ids[::-1]
    assert emr.list_steps(ClusterId=ready, StepStates=["FAILED"])["Steps"] == []
    chosen = emr.list_steps(ClusterId=ready, StepIds=ids[:2])["Steps"]
    assert [found["Id"] for found in chosen] == [ids[1], ids[0]]


def test_unknown_ids_and_markers_are_refused(emr: Any, ready: str) -> None:
    """What does not exist is an InvalidRequestException (ValidationException in the older API)."""
    invalid = "InvalidRequestException"

    assert refusal(emr.describe_cluster, ClusterId="j-NO")[0] == invalid
    assert refusal(emr.describe_step, ClusterId=ready, StepId="s-NO")[0] == invalid
    assert refusal(emr.list_steps, ClusterId=ready, Marker="no")[0] == invalid
    assert refusal(emr.list_steps, ClusterId=ready, StepIds=["s-NO"])[0] == invalid
    assert refusal(emr.cancel_steps, ClusterId=ready, StepIds=["s-NO"])[0] == invalid
    assert refusal(emr.describe_release_label, ReleaseLabel="emr-0")[0] == invalid
    assert refusal(emr.terminate_job_flows, JobFlowIds=["j-NO"])[0] == "ValidationException"


def test_terminate_takes_ten_ids(emr: Any, ready: str) -> None:
    """TerminateJobFlows refuses more than 10 ids, as EMR does."""
    code, message = refusal(emr.terminate_job_flows, JobFlowIds=[ready] * 11)

    assert code == "ValidationException"
    assert "10" in message


def test_protected_cluster_is_not_terminated(emr: Any, ready: str, cluster_in: Any) -> None:
    """TerminateJobFlows answers ValidationException until the protection is lifted."""
    emr.set_termination_protection(JobFlowIds=[ready], TerminationProtected=True)
    code, message = refusal(emr.terminate_job_flows, JobFlowIds=[ready])

    assert code == "ValidationException"
    assert "termination protected" in message
    assert cluster_in(ready, "WAITING")["TerminationProtected"] is True
    emr.set_termination_protection(JobFlowIds=[ready], TerminationProtected=False)
    emr.terminate_job_flows(JobFlowIds=[ready])
    reason = cluster_in(ready, "TERMINATED")["Status"]["StateChangeReason"]
    assert reason == {"Code": "USER_REQUEST", "Message": "Terminated by user request"}


def test_ended_cluster_takes_no_steps(emr: Any, ready: str, step: Any, cluster_in: Any) -> None:
    """A cluster that has ended may not be modified, and ending it again is no error."""
    emr.terminate_job_flows(JobFlowIds=[ready])
    cluster_in(ready, "TERMINATED")

    code, message = refusal(emr.add_job_flow_steps, JobFlowId=ready, Steps=[step("true")])
    assert (code, "may not be modified" in message) == ("ValidationException", True)
    emr.terminate_job_flows(JobFlowIds=[ready])


def test_keep_alive_can_be_switched_off(emr: Any, ready: str, cluster_in: Any) -> None:
    """SetKeepJobFlowAliveWhenNoSteps(False) ends a cluster that has no more steps."""
    emr.set_keep_job_flow_alive_when_no_steps(JobFlowIds=[ready], KeepJobFlowAliveWhenNoSteps=False)

    ended = cluster_in(ready, "TERMINATED")
    assert ended["Status"]["StateChangeReason"]["Code"] == "ALL_STEPS_COMPLETED"
    assert ended["AutoTerminate"] is True


def test_auto_termination_policy(emr: Any, ready: str) -> None:
    """A policy is put, shown and removed, within EMR's bounds."""
    policy = {"IdleTimeout": 604800}
    emr.put_auto_termination_policy(ClusterId=ready, AutoTerminationPolicy=policy)

    assert emr.get_auto_termination_policy(ClusterId=ready)["AutoTerminationPolicy"] == policy
    short = {"IdleTimeout": 59}
    code, message = refusal(
        emr.put_auto_termination_policy, ClusterId=ready, AutoTerminationPolicy=short
    )
    assert (code, "IdleTimeout" in message) == ("ValidationException", True)
    emr.remove_auto_termination_policy(ClusterId=ready)
    assert "AutoTerminationPolicy" not in emr.get_auto_termination_policy(ClusterId=ready)


def test_managed_scaling_policy(emr: Any, ready: str) -> None:
    """A scaling policy is recorded and shown; limits out of order are refused."""
    limits = {"UnitType": "Instances", "MinimumCapacityUnits": 1, "MaximumCapacityUnits": 4}
    policy = {"ComputeLimits": limits}
    emr.put_managed_scaling_policy(ClusterId=ready, ManagedScalingPolicy=policy)

    assert emr.get_managed_scaling_policy(ClusterId=ready)["ManagedScalingPolicy"] == policy
    wrong = {"ComputeLimits": limits | {"MinimumCapacityUnits": 5}}
    code, message = refusal(
        emr.put_managed_scaling_policy, ClusterId=ready, ManagedScalingPolicy=wrong
    )
    assert (code, "minimum 5" in message) == ("ValidationException", True)


def test_tags_are_added_and_removed(emr: Any, ready: str) -> None:
    """AddTags replaces the value of a key that exists; RemoveTags removes keys."""
    emr.add_tags(ResourceId=ready, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    emr.add_tags(ResourceId=ready, Tags=[{"Key": "a", "Value": "3"}])
    emr.remove_tags(ResourceId=ready, TagKeys=["b"])

    tags = emr.describe_cluster(ClusterId=ready)["Cluster"]["Tags"]
    assert tags == [{"Key": "a", "Value": "3"}]
    unknown = refusal(emr.add_tags, ResourceId="j-NO", Tags=[{"Key": "a", "Value": "1"}])
    assert unknown[0] == "InvalidRequestException"


def test_simple_form_makes_two_groups(emr: Any, job_flow: Any, cluster_in: Any) -> None:
    """MasterInstanceType and InstanceCount make a primary and a core group of the rest."""
    simple = {
        "MasterInstanceType": "m5.xlarge",
        "SlaveInstanceType": "m5.2xlarge",
        "InstanceCount": 4,
    }
    request = job_flow()
    del request["Instances"]["InstanceGroups"]
    request["Instances"] |= simple
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]
    cluster_in(cluster_id, "WAITING")

    groups = emr.list_instance_groups(ClusterId=cluster_id)["InstanceGroups"]
    assert [(g["InstanceGroupType"], g["RunningInstanceCount"]) for g in groups] == [
        ("MASTER", 1),
        ("CORE", 3),
    ]
    core = emr.list_instances(ClusterId=cluster_id, InstanceGroupTypes=["CORE"])["Instances"]
    assert [machine["InstanceType"] for machine in core] == ["m5.2xlarge"] * 3
    ended = emr.list_instances(ClusterId=cluster_id, InstanceStates=["TERMINATED"])
    assert ended["Instances"] == []
    fleets = refusal(emr.list_instance_fleets, ClusterId=cluster_id)
    assert fleets[0] == "InvalidRequestException"


def test_fleets_are_filled_by_weight(emr: Any, job_flow: Any, cluster_in: Any) -> None:
    """A fleet gets machines until its On-Demand and Spot targets are met, by weighted capacity."""
    cluster_id = emr.run_job_flow(**job_flow(Instances=FLEETS))["JobFlowId"]
    assert cluster_in(cluster_id, "WAITING")["InstanceCollectionType"] == "INSTANCE_FLEET"

    fleets = emr.list_instance_fleets(ClusterId=cluster_id)["InstanceFleets"]
    core = next(fleet for fleet in fleets if fleet["InstanceFleetType"] == "CORE")
    assert (core["ProvisionedOnDemandCapacity"], core["ProvisionedSpotCapacity"]) == (2, 6)
    machines = emr.list_instances(ClusterId=cluster_id, InstanceFleetType="CORE")["Instances"]
    assert sorted(machine["Market"] for machine in machines) == ["ON_DEMAND", *["SPOT"] * 3]
    groups = refusal(emr.list_instance_groups, ClusterId=cluster_id)
    assert groups[0] == "InvalidRequestException"


def test_release_label_names_its_applications(emr: Any) -> None:
    """DescribeReleaseLabel says which Spark a release has."""
    answer = emr.describe_release_label(ReleaseLabel="emr-spark-8.1.0")

    assert {"Name": "Spark", "Version": "4.1.1"} in answer["Applications"]


def test_actions_that_are_not_here_are_refused_by_name(emr: Any) -> None:
    """An action of EMR that the endpoint does not have is refused, and the answer names it."""
    code, message = refusal(emr.list_studios)

    assert code == "UnknownOperationException"
    assert "ListStudios" in message


def test_regions_do_not_see_each_other(emr: Any, job_flow: Any) -> None:
    """The region of a request is the region of its clusters: another's do not exist."""
    ireland = boto3.client("emr", region_name="eu-west-1")
    before = clusters(emr)
    cluster_id = ireland.run_job_flow(**job_flow())["JobFlowId"]

    assert clusters(emr) == before
    assert clusters(ireland) == [cluster_id]
    assert refusal(emr.describe_cluster, ClusterId=cluster_id)[0] == "InvalidRequestException"
    assert refusal(emr.terminate_job_flows, JobFlowIds=[cluster_id])[0] == "ValidationException"
    arn = ireland.describe_cluster(ClusterId=cluster_id)["Cluster"]["ClusterArn"]
    assert "eu-west-1" in arn


def test_unsigned_request_is_refused(cloud: LocalCloud) -> None:
    """A request that is not signed names no region, so it is refused."""
    headers = {"X-Amz-Target": "ElasticMapReduce.ListClusters"}
    request = urllib.request.Request(cloud.emr.endpoint_url, b"{}", headers)

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403


def test_unmodelled_parameter_is_refused_by_name() -> None:
    """A parameter that EMR does not have is refused by name (boto3 would not even send it)."""
    with pytest.raises(ValidationError, match="Colour"):
        check("ListClusters", {"Colour": "red"})


def test_unicode_names_are_allowed() -> None:
    """EMR's pattern for names is written in UTF-16: it must not refuse an emoji here."""
    check("RunJobFlow", {"Name": "🍎 été", "Instances": {}})


def test_journal_has_every_call(emr: Any, raw: Any, cloud: LocalCloud, job_flow: Any) -> None:
    """The journal says who asked for what, from which region, and how it was answered."""
    path = cloud.emr.journal.path
    before, accepted = len(journal.read(path)), len(journal.accepted_calls(path, "RunJobFlow"))

    cluster_id = emr.run_job_flow(**job_flow(Name="first"))["JobFlowId"]
    refusal(raw.run_job_flow, **job_flow(Name="second", AmiVersion="1"))

    calls = [e for e in journal.read(path)[before:] if e["kind"] == "call"]
    assert [call["parameters"]["Name"] for call in calls] == ["first", "second"]
    assert calls[0]["answer"]["JobFlowId"] == cluster_id
    assert calls[1]["error"]["code"] == "ValidationException"
    assert {call["region"] for call in calls} == {"eu-west-3"}
    assert all(call["agent"].startswith("Boto3/") for call in calls)
    assert len(journal.accepted_calls(path, "RunJobFlow")) == accepted + 1


def test_answers_are_dated_by_the_endpoints_clock(
    cloud: LocalCloud, tmp_path: Path, job_flow: Any
) -> None:
    """The Date header and a cluster's creation come from one clock: their difference is an age."""
    services = {"AWS_ENDPOINT_URL_S3": cloud.storage.endpoint_url}
    buckets, future = cloud.storage.folder, 4_000_000_000.0
    with EmrEndpoint(tmp_path / "emr", buckets, services, clock=lambda: future) as endpoint:
        client = boto3.client("emr", endpoint_url=endpoint.endpoint_url)
        cluster_id = client.run_job_flow(**job_flow())["JobFlowId"]
        answer = client.describe_cluster(ClusterId=cluster_id)

    dated = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    created = answer["Cluster"]["Status"]["Timeline"]["CreationDateTime"]
    assert created.timestamp() == dated.timestamp() == future
