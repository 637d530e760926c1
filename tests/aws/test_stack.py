"""The CloudFormation stack: rules, practices, and that it comes and goes whole."""

from __future__ import annotations

import boto3
import pytest

from fruits.lake import NAMESPACE
from fruits.settings import EU_REGIONS
from tests.aws.stacks import CONTENT, REGION, make_stack


def test_each_exception_has_a_reason() -> None:
    """A check is skipped for what is written there, not for silence."""
    skipped = [
        skip
        for resource in CONTENT["Resources"].values()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]

    assert len(skipped) == 5
    assert all(len(skip["comment"]) > 15 for skip in skipped)


@pytest.mark.parametrize("airflow", ["", "code/0123.tar.gz"])
def test_it_comes_and_goes(moto_account: None, airflow: str) -> None:
    """Made in an empty account, and removed again, it leaves nothing."""
    make_stack(AirflowCode=airflow, Endpoints="all")
    ec2, cloudformation = boto3.client("ec2", REGION), boto3.client("cloudformation", REGION)
    assert len(boto3.client("s3").list_buckets()["Buckets"]) == 2

    cloudformation.delete_stack(StackName="fruits")

    assert boto3.client("s3").list_buckets()["Buckets"] == []
    assert [v["IsDefault"] for v in ec2.describe_vpcs()["Vpcs"]] == [True]
    assert boto3.client("iam").list_roles()["Roles"] == []


def test_airflow_is_a_choice(moto_account: None) -> None:
    """Without the machine there is no way to the internet and nothing but endpoints costs."""
    made = make_stack()

    ec2 = boto3.client("ec2", REGION)
    assert "AirflowInstance" not in made.outputs
    assert ec2.describe_internet_gateways()["InternetGateways"] == []
    assert ec2.describe_nat_gateways()["NatGateways"] == []


def test_nobody_reaches_the_airflow_machine() -> None:
    """Its group lets nothing in; SSM's sessions are opened from inside."""
    group = CONTENT["Resources"]["AirflowGroup"]["Properties"]

    assert "SecurityGroupIngress" not in group
    assert not [
        name
        for name, resource in CONTENT["Resources"].items()
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress"
        and resource["Properties"]["GroupId"] == "AirflowGroup"
    ]


def test_the_airflow_machine_has_one_role() -> None:
    """What the DAGs do, SSM's sessions, and nothing else."""
    role = CONTENT["Resources"]["AirflowRole"]["Properties"]

    own, sessions = role["ManagedPolicyArns"]
    assert own == "AirflowPolicy"
    assert sessions.endswith(":iam::aws:policy/AmazonSSMManagedInstanceCore")
    assert "Policies" not in role


@pytest.mark.parametrize("bucket", ["ImagesBucket", "LakeBucket"])
def test_buckets_are_encrypted_with_our_key(bucket: str) -> None:
    """Nothing has to ask for it: it is the default of both."""
    encryption = CONTENT["Resources"][bucket]["Properties"]["BucketEncryption"]
    (rule,) = encryption["ServerSideEncryptionConfiguration"]

    default = rule["ServerSideEncryptionByDefault"]
    assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "Key.Arn"}


@pytest.mark.parametrize("bucket", ["ImagesBucket", "LakeBucket"])
def test_buckets_are_private(bucket: str) -> None:
    """No access list and no policy can open them."""
    blocked = CONTENT["Resources"][bucket]["Properties"]["PublicAccessBlockConfiguration"]

    assert len(blocked) == 4
    assert all(blocked.values())


def test_what_is_deleted_ends() -> None:
    """Old versions of images end after days that are chosen; the lake keeps none."""
    images = CONTENT["Resources"]["ImagesBucket"]["Properties"]
    lake = CONTENT["Resources"]["LakeBucket"]["Properties"]
    (rule,) = images["LifecycleConfiguration"]["Rules"]

    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": "OldImageVersionDays"}
    assert "VersioningConfiguration" not in lake
    expiring = {r.get("Prefix") for r in lake["LifecycleConfiguration"]["Rules"]}
    assert {"logs/", "manifests/", "attempts/", "leases/"} <= expiring


def test_the_stack_is_refused_outside_the_eu() -> None:
    """Its regions are those of the settings."""
    allowed, _ = CONTENT["Rules"]["InsideTheEU"]["Assertions"][0]["Assert"]

    assert set(allowed) == set(EU_REGIONS)


@pytest.mark.parametrize("bucket", ["ImagesBucketPolicy", "LakeBucketPolicy"])
def test_buckets_refuse_what_is_not_tls(bucket: str) -> None:
    """The whole bucket, to everybody."""
    statement = CONTENT["Resources"][bucket]["Properties"]["PolicyDocument"]["Statement"][0]

    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_database_is_the_packages_namespace() -> None:
    """What the stack makes is what the tables are created in."""
    database = CONTENT["Resources"]["Database"]["Properties"]["DatabaseInput"]

    assert database["Name"] == NAMESPACE
