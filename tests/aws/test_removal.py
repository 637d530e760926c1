"""Removing the stack: everything goes, unless somebody needs it; also after a failure."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from bootstrap.aws import commands, removal
from bootstrap.aws.stacks import FAILED, Stack
from tests.aws.accounts import IMAGES, LAKE, Command, buckets, stacks
from tests.aws.stacks import REGION


def test_photographs_are_not_removed_by_the_way(deployed: Command) -> None:
    """A bucket with images, or with old versions of deleted ones, stops the removal."""
    s3 = keep_versions()
    s3.put_object(Bucket=IMAGES, Key="Apple/1.jpg", Body=b"1")
    s3.delete_object(Bucket=IMAGES, Key="Apple/1.jpg")

    code, told = deployed("remove", answer="fruits")

    assert code == 1
    assert "DELETE_IMAGES=yes" in told
    assert stacks() == ["fruits"]


def test_everything_goes_when_asked_for(deployed: Command) -> None:
    """Buckets with their versions, groups that name each other, and every role."""
    s3, ec2 = keep_versions(), boto3.client("ec2", REGION)
    s3.put_object(Bucket=IMAGES, Key="Apple/1.jpg", Body=b"1")
    s3.put_object(Bucket=IMAGES, Key="Apple/1.jpg", Body=b"2")
    s3.put_object(Bucket=LAKE, Key="tables/features/data/1.parquet", Body=b"1")
    let_groups_name_each_other(ec2)

    refused = deployed("remove", "--delete-images", answer="yes")
    code, told = deployed("remove", "--delete-images", answer="fruits")

    assert refused[0] == 2
    assert code == 0, told
    assert (stacks(), buckets()) == ([], set())
    assert [v["IsDefault"] for v in ec2.describe_vpcs()["Vpcs"]] == [True]
    assert deployed("remove", answer="fruits")[0] == 0


def keep_versions() -> Any:
    """Return a client of S3, in which the images' bucket keeps versions: moto's stacks do not."""
    s3 = boto3.client("s3")
    s3.put_bucket_versioning(Bucket=IMAGES, VersioningConfiguration={"Status": "Enabled"})
    return s3


def let_groups_name_each_other(ec2: Any) -> None:
    """Add the rules that EMR adds when it makes the first cluster."""
    groups = ec2.describe_security_groups()["SecurityGroups"]
    nodes = [g["GroupId"] for g in groups if g["Description"].startswith("Nodes of the clusters")]
    for one, other in (nodes, nodes[::-1]):
        pairs = [{"GroupId": other}]
        rule = {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "UserIdGroupPairs": pairs}
        ec2.authorize_security_group_ingress(GroupId=one, IpPermissions=[rule])


def test_what_emr_left_in_the_network_goes(
    deployed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its service role may make an endpoint, which outlives clusters and would keep the VPC."""
    monkeypatch.setattr(removal, "PAUSE", 0.01)
    ec2 = boto3.client("ec2", REGION)
    resources = Stack("fruits", REGION).resources()
    tags = [{"Key": "Name", "Value": removal.ENDPOINT_OF_EMR}]
    left = ec2.create_vpc_endpoint(
        VpcId=resources["Vpc"],
        ServiceName=f"com.amazonaws.{REGION}.elasticmapreduce",
        VpcEndpointType="Interface",
        SubnetIds=[resources["ClusterSubnet"]],
        TagSpecifications=[{"ResourceType": "vpc-endpoint", "Tags": tags}],
    )["VpcEndpoint"]["VpcEndpointId"]

    code, told = deployed("remove", answer="fruits")

    (endpoint,) = ec2.describe_vpc_endpoints(VpcEndpointIds=[left])["VpcEndpoints"]
    assert code == 0, told
    assert endpoint["State"].lower() == "deleted"
    assert stacks() == []


@pytest.mark.parametrize("status", FAILED)
def test_what_a_failure_left_is_removed_first(
    deployed: Command, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """CloudFormation changes no such stack: the way out is named, and is open."""
    real = Stack._describe
    monkeypatch.setattr(
        Stack, "_describe", lambda self: {**real(self), "StackStatus": status, "Outputs": []}
    )
    refused = deployed("deploy", answer="deploy")

    code, told = deployed("remove", answer="fruits")

    assert refused[0] == 1
    assert status in refused[1]
    assert "make aws-remove" in refused[1]
    assert code == 0, told
    assert (stacks(), buckets()) == ([], set())


def test_a_stack_of_which_buckets_are_gone_is_removed(
    deployed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal that failed half-way is finished by the next."""
    real = Stack.resources
    gone = ("LakeBucket", "ImagesBucket", "ClusterSubnet", "Vpc", *removal.GROUPS)
    monkeypatch.setattr(
        Stack, "resources", lambda self: {k: v for k, v in real(self).items() if k not in gone}
    )
    monkeypatch.setattr(commands, "empty", lambda bucket: pytest.fail(f"{bucket} is gone"))

    code, told = deployed("remove", answer="fruits")

    assert code == 0, told
    assert stacks() == []


def test_a_living_cluster_stops_the_removal(deployed: Command) -> None:
    """Its network cannot go from under it: it is named."""
    described = boto3.client("cloudformation", REGION).describe_stacks(StackName="fruits")
    outputs = {o["OutputKey"]: o["OutputValue"] for o in described["Stacks"][0]["Outputs"]}
    cluster = boto3.client("emr", REGION).run_job_flow(
        Name="fruits",
        ReleaseLabel="emr-7.0.0",
        Instances={
            "Ec2SubnetId": outputs["SubnetId"],
            "MasterInstanceType": "m5.xlarge",
            "InstanceCount": 1,
            "KeepJobFlowAliveWhenNoSteps": True,
        },
        JobFlowRole="r",
        ServiceRole="r",
    )

    code, told = deployed("remove", answer="fruits")

    assert code == 1
    assert cluster["JobFlowId"] in told
