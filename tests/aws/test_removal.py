"""Removing the stack: everything goes, unless somebody needs it; also after a failure."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from bootstrap.aws import commands, removal
from bootstrap.aws.errors import InUseError
from bootstrap.aws.removal import empty
from bootstrap.aws.stacks import FAILED, Stack
from fruits.code_archive import publish_code
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


def start_cluster() -> str:
    """Begin a cluster in the stack's network; return its id."""
    outputs = Stack("fruits", REGION).outputs() or {}
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
    return str(cluster["JobFlowId"])


def test_a_living_cluster_stops_the_removal(deployed: Command) -> None:
    """Its network cannot go from under it: it is named."""
    cluster = start_cluster()

    code, told = deployed("remove", answer="fruits")

    assert code == 1
    assert cluster in told


def test_a_cluster_that_began_meanwhile_stops_the_removal(
    deployed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody took an hour to type the name: nothing was emptied by then."""
    begun = []

    def answer() -> str:
        begun.append(start_cluster())
        return "fruits"

    monkeypatch.setattr("builtins.input", answer)
    boto3.client("s3").put_object(Bucket=LAKE, Key="tables/1.parquet", Body=b"1")

    code, told = deployed("remove")

    assert code == 1
    assert begun[0] in told
    assert not removal.is_empty(LAKE)


@pytest.fixture
def machine(deployed: Command) -> str:
    """Let the stack have a machine with Airflow; return its id."""
    publish_code(f"s3://{LAKE}")
    assert deployed("deploy", "--airflow", "yes", answer="deploy")[0] == 0
    return Stack("fruits", REGION).resources()["Airflow"]


def test_airflow_stops_before_the_lake_is_emptied(
    deployed: Command, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could begin a cluster meanwhile, or write into the lake that is emptied."""
    seen = []
    monkeypatch.setattr(
        commands, "empty", lambda bucket: (seen.append(state(machine)), empty(bucket))
    )

    code, told = deployed("remove", answer="fruits")

    assert code == 0, told
    assert seen == ["stopped"]


def test_airflow_starts_again_where_a_cluster_needs_it(
    deployed: Command, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One began before its machine had stopped: nobody else would end it."""
    stop = commands.stop_machine

    def slowly(*of: str) -> None:
        start_cluster()
        stop(*of)

    monkeypatch.setattr(commands, "stop_machine", slowly)

    code, told = deployed("remove", answer="fruits")

    assert code == 1, told
    assert state(machine) in ("pending", "running")
    assert not removal.is_empty(LAKE)


@pytest.mark.parametrize("failure", [ConnectionError, KeyboardInterrupt])
def test_airflow_starts_again_where_nobody_could_look(
    deployed: Command,
    machine: str,
    monkeypatch: pytest.MonkeyPatch,
    failure: type[BaseException],
) -> None:
    """A cluster may live all the same: nothing is removed, and its watchdog runs."""
    looks = iter([None, failure()])

    def look(*_: object) -> None:
        if failed := next(looks):
            raise failed

    monkeypatch.setattr(commands, "refuse_live_clusters", look)

    with pytest.raises(failure):
        deployed("remove", answer="fruits")

    assert state(machine) in ("pending", "running")
    assert stacks() == ["fruits"]


def test_airflow_starts_again_where_somebody_gives_up(
    deployed: Command, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while it stops removes nothing: schedule and watchdog are to go on."""
    stop = commands.stop_machine

    def interrupted(*of: str) -> None:
        stop(*of)
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "stop_machine", interrupted)

    with pytest.raises(KeyboardInterrupt):
        deployed("remove", answer="fruits")

    assert state(machine) in ("pending", "running")
    assert stacks() == ["fruits"]


def test_an_airflow_of_somebody_stops_the_removal(deployed: Command) -> None:
    """It could begin a cluster, and IAM would keep the policy when the lake was gone."""
    iam, policy = boto3.client("iam"), Stack("fruits", REGION).resources()["AirflowPolicy"]
    iam.create_role(RoleName="their-airflow", AssumeRolePolicyDocument="{}")
    iam.attach_role_policy(RoleName="their-airflow", PolicyArn=policy)

    code, told = deployed("remove", answer="fruits")

    assert (code, "their-airflow" in told) == (1, True)
    assert stacks() == ["fruits"]
    iam.detach_role_policy(RoleName="their-airflow", PolicyArn=policy)
    assert deployed("remove", answer="fruits")[0] == 0


def state(machine: str) -> str:
    """Return EC2's word for the state of *machine*."""
    described = boto3.client("ec2", REGION).describe_instances(InstanceIds=[machine])
    return str(described["Reservations"][0]["Instances"][0]["State"]["Name"])


def test_a_machine_that_is_gone_stops_nothing(moto_account: None) -> None:
    """Somebody terminated it by hand, or a removal that failed half-way did."""
    assert removal.running_machine("i-0123456789abcdef0", REGION) is None


@pytest.mark.parametrize(
    "attributes",
    [{"Ec2SubnetId": "subnet-1"}, {"RequestedEc2SubnetIds": ["subnet-0", "subnet-1"]}],
)
def test_a_cluster_lives_where_it_asked_to(
    moto_account: None, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any]
) -> None:
    """Runs ask for a list of subnets; EMR says which was taken once it has machines there."""
    emr = boto3.client("emr", REGION)
    monkeypatch.setattr(boto3, "client", lambda *_, **__: emr)
    cluster = {"Id": "j-1", "Ec2InstanceAttributes": attributes}
    with Stubber(emr) as stubber:
        stubber.add_response("list_clusters", {"Clusters": [{"Id": "j-1"}]})
        stubber.add_response("describe_cluster", {"Cluster": cluster})

        with pytest.raises(InUseError, match="j-1"):
            removal.refuse_live_clusters("subnet-1", REGION)
