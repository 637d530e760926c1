"""The CloudFormation stack: rules, practices, and that it comes and goes whole."""

from __future__ import annotations

import email
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from bootstrap.aws import template
from fruits.lake import NAMESPACE
from fruits.settings import EU_REGIONS, Settings
from tests.aws.stacks import CONTENT, REGION, make_stack

RETENTION = {"Ref": "RetentionDays"}
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpRange.html
DESCRIBED = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}")


def test_each_exception_has_a_reason() -> None:
    """A check is skipped for what is written there, not for silence."""
    skipped = [
        skip
        for resource in CONTENT["Resources"].values()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]

    assert len(skipped) == 5
    assert all(len(skip["comment"]) > 15 for skip in skipped)


def test_an_error_of_the_template_names_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever loader there is, whoever edits the template is told line and column."""
    broken = tmp_path / "stack.yaml"
    broken.write_text("Resources:\n  Bucket: !Sub [a\n")
    monkeypatch.setattr(template, "TEMPLATE", broken)

    with pytest.raises(yaml.YAMLError, match="line 3, column 1"):
        template.load_template()


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


def test_groups_are_described_as_ec2_allows() -> None:
    """EC2 refuses an apostrophe in a description, and with it the stack; no stand-in does."""
    groups = [
        resource["Properties"]
        for resource in CONTENT["Resources"].values()
        if resource["Type"].startswith("AWS::EC2::SecurityGroup")
    ]

    said = [told for group in groups for told in descriptions(group)]

    assert len(said) >= 12
    assert [told for told in said if not DESCRIBED.fullmatch(told)] == []


def descriptions(group: dict[str, Any]) -> Iterator[str]:
    """Yield what a group, or a rule that stands by itself, and its rules say of themselves."""
    rules = [*group.get("SecurityGroupIngress", []), *group.get("SecurityGroupEgress", [])]
    for one in (group, *rules):
        yield one.get("GroupDescription") or one["Description"]


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
        and resource["Properties"]["GroupId"] == {"Ref": "AirflowGroup"}
    ]


def test_the_airflow_machine_starts_by_a_script() -> None:
    """cloud-init gets two parts: run scripts at every start, and a script that bash can read."""
    data = CONTENT["Resources"]["Airflow"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    again, script = email.message_from_string(data).get_payload()

    assert again.get_content_type() == "text/cloud-config"
    assert yaml.safe_load(again.get_payload()) == {
        "cloud_final_modules": [["scripts-user", "always"]]
    }
    assert script.get_content_type() == "text/x-shellscript"
    text = re.sub(r"\$\{[\w:.]+\}", "made-by-cloudformation", script.get_payload())
    assert text.startswith("#!/bin/bash\n")
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_airflow_machine_has_one_role() -> None:
    """What the DAGs do, SSM's sessions, and nothing else."""
    role = CONTENT["Resources"]["AirflowRole"]["Properties"]

    own, sessions = role["ManagedPolicyArns"]
    assert own == {"Ref": "AirflowPolicy"}
    assert sessions["Fn::Sub"].endswith(":iam::aws:policy/AmazonSSMManagedInstanceCore")
    assert "Policies" not in role


@pytest.mark.parametrize("bucket", ["ImagesBucket", "LakeBucket"])
def test_buckets_are_encrypted_with_our_key(bucket: str) -> None:
    """Nothing has to ask for it: it is the default of both."""
    encryption = CONTENT["Resources"][bucket]["Properties"]["BucketEncryption"]
    (rule,) = encryption["ServerSideEncryptionConfiguration"]

    default = rule["ServerSideEncryptionByDefault"]
    assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Fn::GetAtt": "Key.Arn"}}


@pytest.mark.parametrize("bucket", ["ImagesBucket", "LakeBucket"])
def test_buckets_are_private(bucket: str) -> None:
    """No access list and no policy can open them."""
    blocked = CONTENT["Resources"][bucket]["Properties"]["PublicAccessBlockConfiguration"]

    assert len(blocked) == 4
    assert all(blocked.values())


def test_alerts_go_to_the_address_of_the_alarm(moto_account: None) -> None:
    """A mail has to be confirmed; the topic is encrypted with our key, and its ARN is a setting."""
    made = make_stack()

    sns = boto3.client("sns", REGION)
    (subscription,) = sns.list_subscriptions_by_topic(TopicArn=made.topic)["Subscriptions"]
    attributes = sns.get_topic_attributes(TopicArn=made.topic)["Attributes"]
    assert made.topic.endswith(":fruits-alerts")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "somebody@example.org")
    assert attributes["KmsMasterKeyId"] == made.key
    assert Settings(alert_topic=made.topic).alert_topic == made.topic


def test_roles_alone_decide_who_publishes() -> None:
    """SNS's own policy would let everybody in the account; ours lets nobody without TLS."""
    policy = CONTENT["Resources"]["AlertsPolicy"]["Properties"]
    (statement,) = policy["PolicyDocument"]["Statement"]

    assert policy["Topics"] == [{"Ref": "Alerts"}]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_what_is_deleted_ends() -> None:
    """Old versions of images end after days that are chosen; the lake keeps none."""
    images = CONTENT["Resources"]["ImagesBucket"]["Properties"]
    lake = CONTENT["Resources"]["LakeBucket"]["Properties"]
    (rule,) = images["LifecycleConfiguration"]["Rules"]

    assert images["VersioningConfiguration"] == {"Status": "Enabled"}
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": RETENTION}
    assert "VersioningConfiguration" not in lake
    expiring = {r.get("Prefix"): r for r in lake["LifecycleConfiguration"]["Rules"]}
    for prefix in ("logs/", "manifests/", "attempts/"):
        assert expiring[prefix]["ExpirationInDays"] == RETENTION


def test_the_stack_is_refused_outside_the_eu() -> None:
    """Its regions are those of the settings."""
    allowed, _ = CONTENT["Rules"]["InsideTheEU"]["Assertions"][0]["Assert"]["Fn::Contains"]

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
