"""What has to be before CloudFormation removes the stack, and what it cannot do itself.

Nobody may use the stack, and Airflow's machine stops; buckets are emptied, groups and EMR's own
endpoint let go.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3

from bootstrap.aws.errors import InUseError
from fruits.originals import versions
from fruits.stored import AT_ONCE, delete_all

if TYPE_CHECKING:
    from mypy_boto3_emr.literals import ClusterStateType

LIVE: list[ClusterStateType] = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING"]
GROUPS = ("PrimaryGroup", "WorkerGroup", "ServiceGroup")
ENDPOINT_OF_EMR = "emr-service-vpce"
GONE_WITHIN, PAUSE = 600.0, 5.0  # seconds


def refuse_live_clusters(subnet: str | None, region: str) -> None:
    """Raise InUseError if a cluster lives in *subnet*: the network could not go."""
    if subnet is None:
        return
    emr = boto3.client("emr", region_name=region)
    pages = emr.get_paginator("list_clusters").paginate(ClusterStates=LIVE)
    live = tuple(
        cluster["Id"]
        for page in pages
        for cluster in page["Clusters"]
        if subnet in _subnets(emr.describe_cluster(ClusterId=cluster["Id"]))
    )
    if live:
        raise InUseError(
            f"Clusters live in this stack's network: {', '.join(live)}.",
            "Pause the DAG and wait until they have ended, or end them in the console.",
            by=live,
        )


def refuse_lent_policy(policy: str | None, own_role: str | None) -> None:
    """Raise InUseError if anybody but *own_role* has *policy*: an Airflow that is not the stack's.

    It could begin a cluster at any time, and IAM deletes no policy that somebody has.
    """
    if policy is None:
        return
    pages = boto3.client("iam").get_paginator("list_entities_for_policy").paginate(PolicyArn=policy)
    having = [
        name
        for page in pages
        for name in (
            *(one["RoleName"] for one in page["PolicyRoles"]),
            *(one["UserName"] for one in page["PolicyUsers"]),
            *(one["GroupName"] for one in page["PolicyGroups"]),
        )
    ]
    if others := tuple(name for name in having if name != own_role):
        raise InUseError(
            f"An Airflow of yours may work with this stack: {', '.join(others)} has {policy}.",
            "Stop that Airflow, and detach the policy.",
            by=others,
        )


def running_machine(instance: str | None, region: str) -> str | None:
    """Return the machine that runs Airflow, if it runs."""
    if instance is None:
        return None
    ec2 = boto3.client("ec2", region_name=region)
    wanted = [
        {"Name": "instance-id", "Values": [instance]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping"]},
    ]
    # By a filter, for somebody may have terminated it.
    return instance if ec2.describe_instances(Filters=wanted)["Reservations"] else None


def stop_machine(instance: str | None, region: str) -> None:
    """Stop the machine that runs Airflow, which could begin a cluster; return when it has."""
    if instance is None:
        return
    ec2 = boto3.client("ec2", region_name=region)
    ec2.stop_instances(InstanceIds=[instance])
    ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance])


def start_machine(instance: str, region: str) -> None:
    """Start the machine again, once it has stopped: its Airflow ends what still lives."""
    ec2 = boto3.client("ec2", region_name=region)
    # EC2 starts none that is stopping; one that was not asked to stop is not waited for.
    if _state_of(ec2, instance) == "stopping":
        ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance])
    ec2.start_instances(InstanceIds=[instance])


def _state_of(ec2: Any, instance: str) -> str:
    described = ec2.describe_instances(InstanceIds=[instance])
    return str(described["Reservations"][0]["Instances"][0]["State"]["Name"])


def is_empty(bucket: str) -> bool:
    """Say whether *bucket* holds nothing, no old version either."""
    return next(versions(bucket), None) is None


def empty(bucket: str) -> None:
    """Delete every version of every object of *bucket*."""
    # A page at a time: a bucket may hold millions.
    while chunk := [one for one, _ in zip(versions(bucket), range(AT_ONCE), strict=False)]:
        delete_all(bucket, chunk)


def part_groups(resources: Mapping[str, str], region: str) -> None:
    """Take the rules out of the clusters' security groups: EMR made them name each other."""
    ec2 = boto3.client("ec2", region_name=region)
    ids = [resources[name] for name in GROUPS if resources.get(name)]
    for group in ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"] if ids else []:
        if group["IpPermissions"]:
            ec2.revoke_security_group_ingress(
                GroupId=group["GroupId"], IpPermissions=group["IpPermissions"]
            )
        naming = [rule for rule in group["IpPermissionsEgress"] if rule.get("UserIdGroupPairs")]
        if naming:
            ec2.revoke_security_group_egress(GroupId=group["GroupId"], IpPermissions=naming)


def remove_endpoints_of_emr(vpc: str | None, region: str) -> None:
    """Delete the interface endpoint that EMR may have made for itself in *vpc*; wait until it went.

    AmazonEMRServicePolicy_v2 lets it make one, by this name, and delete none: it would outlive its
    cluster, cost by the hour, and keep the network from being removed.
    """
    if vpc is None:
        return
    ec2 = boto3.client("ec2", region_name=region)
    wanted = [
        {"Name": "vpc-id", "Values": [vpc]},
        {"Name": "tag:Name", "Values": [ENDPOINT_OF_EMR]},
    ]
    deadline = time.monotonic() + GONE_WITHIN
    while left := _states(ec2.describe_vpc_endpoints(Filters=wanted)):
        if doomed := [one for one, state in left.items() if state.lower() != "deleting"]:
            ec2.delete_vpc_endpoints(VpcEndpointIds=doomed)
        if time.monotonic() > deadline:
            raise InUseError(
                f"EMR's own endpoint is still in {vpc}: {', '.join(left)}.",
                "Wait until it is deleted, or see in the console what keeps it, and try again.",
                by=tuple(left),
            )
        time.sleep(PAUSE)


def _states(described: Mapping[str, Any]) -> dict[str, str]:
    """Return the state of each endpoint that is not deleted, by its id."""
    states = {one["VpcEndpointId"]: one["State"] for one in described["VpcEndpoints"]}
    return {one: state for one, state in states.items() if state.lower() != "deleted"}


def _subnets(described: Mapping[str, Any]) -> set[str]:
    """Return the subnets that a cluster is in or asked for: one that starts may be in none yet."""
    attributes = described["Cluster"].get("Ec2InstanceAttributes", {})
    asked = attributes.get("RequestedEc2SubnetIds", [])
    return {one for one in (attributes.get("Ec2SubnetId"), *asked) if one}
