"""How EMR's answers show a cluster, a step and a machine: records in, plain dictionaries out."""

from __future__ import annotations

from typing import Any

from local_cloud.emr.machines import fleet_capacity
from local_cloud.emr.model import (
    CLOSED,
    ENDED,
    Cluster,
    ClusterState,
    Instance,
    InstanceCollection,
    Step,
)
from local_cloud.emr.releases import RELEASES

_PRESENT = {
    ClusterState.STARTING: "PROVISIONING",
    ClusterState.BOOTSTRAPPING: "BOOTSTRAPPING",
    ClusterState.RUNNING: "RUNNING",
    ClusterState.WAITING: "RUNNING",
    ClusterState.TERMINATING: "RUNNING",
}


def cluster(record: Cluster) -> dict[str, Any]:
    """Return DescribeCluster's Cluster."""
    request = record.request
    return summary(record) | {
        "Ec2InstanceAttributes": _ec2_attributes(request),
        "InstanceCollectionType": "INSTANCE_FLEET" if record.uses_fleets else "INSTANCE_GROUP",
        "LogUri": _as_told(record.log_uri),
        "ReleaseLabel": request["ReleaseLabel"],
        "AutoTerminate": not record.keep_alive,
        "TerminationProtected": record.termination_protected,
        "UnhealthyNodeReplacement": request["Instances"].get("UnhealthyNodeReplacement"),
        "VisibleToAllUsers": request.get("VisibleToAllUsers", True),
        "Applications": _applications(request),
        "Tags": [{"Key": key, "Value": value} for key, value in record.tags],
        "ServiceRole": request["ServiceRole"],
        "MasterPublicDnsName": "localhost" if record.ready_at else None,
        "Configurations": request.get("Configurations", []),
        "SecurityConfiguration": request.get("SecurityConfiguration"),
        "AutoScalingRole": request.get("AutoScalingRole"),
        "ScaleDownBehavior": request.get("ScaleDownBehavior", "TERMINATE_AT_TASK_COMPLETION"),
        "EbsRootVolumeSize": request.get("EbsRootVolumeSize"),
        "EbsRootVolumeIops": request.get("EbsRootVolumeIops"),
        "EbsRootVolumeThroughput": request.get("EbsRootVolumeThroughput"),
        "OSReleaseLabel": request.get("OSReleaseLabel"),
        "StepConcurrencyLevel": record.concurrency,
    }


def _as_told(log_uri: str | None) -> str | None:
    # As EMR does: what was given as s3:// comes back with Hadoop's old name of the scheme.
    return log_uri and log_uri.replace("s3://", "s3n://", 1)


def summary(record: Cluster) -> dict[str, Any]:
    """Return ListClusters' ClusterSummary."""
    reason = {"Code": record.reason_code or None, "Message": record.reason_message}
    return {
        "Id": record.id,
        "Name": record.name,
        "Status": {
            "State": record.state,
            "StateChangeReason": reason,
            "Timeline": _timeline(record.created_at, record.ready_at, record.ended_at),
        },
        "NormalizedInstanceHours": 0,
        "ClusterArn": record.arn,
    }


def step(owner: Cluster, record: Step) -> dict[str, Any]:
    """Return DescribeStep's Step (and ListSteps' StepSummary)."""
    logs = owner.step_log_uri(record.id)
    failure = record.failure and {
        "Reason": record.failure.reason,
        "Message": record.failure.message or None,
        "LogFile": f"{logs}stderr.gz" if logs else None,
    }
    return {
        "Id": record.id,
        "Name": record.name,
        "Config": {"Jar": record.jar, "Properties": {}, "Args": list(record.args)},
        "ActionOnFailure": record.action_on_failure,
        "Status": {
            "State": record.state,
            "StateChangeReason": {"Message": record.reason_message or None},
            "FailureDetails": failure,
            "Timeline": {
                "CreationDateTime": record.created_at,
                "StartDateTime": record.started_at,
                "EndDateTime": record.ended_at,
            },
        },
    }


def instance_state(record: Cluster, machine: Instance) -> str:
    """Return the state of a machine, which follows from its cluster's."""
    if machine.lost_at or record.state in ENDED:
        return "TERMINATED"
    return _PRESENT[record.state]


def instance(record: Cluster, machine: Instance) -> dict[str, Any]:
    """Return ListInstances' Instance."""
    kind = "InstanceFleetId" if record.uses_fleets else "InstanceGroupId"
    state = instance_state(record, machine)
    code = (
        ("INSTANCE_FAILURE" if machine.lost_at else "CLUSTER_TERMINATED")
        if state == "TERMINATED"
        else None
    )
    return {
        "Id": machine.id,
        "Ec2InstanceId": machine.ec2_id,
        "PublicDnsName": "localhost",
        "PublicIpAddress": "127.0.0.1",
        "PrivateDnsName": "localhost",
        "PrivateIpAddress": "127.0.0.1",
        "Status": {
            "State": state,
            "StateChangeReason": {"Code": code},
            "Timeline": _timeline(
                record.created_at, record.ready_at, machine.lost_at or record.ended_at
            ),
        },
        kind: machine.collection_id,
        "Market": machine.market,
        "InstanceType": machine.instance_type,
        "EbsVolumes": [],
    }


def group(record: Cluster, collection: InstanceCollection) -> dict[str, Any]:
    """Return ListInstanceGroups' InstanceGroup."""
    request = collection.request
    return {
        "Id": collection.id,
        "Name": collection.name,
        "Market": collection.market,
        "InstanceGroupType": collection.role,
        "BidPrice": request.get("BidPrice"),
        "InstanceType": request["InstanceType"],
        "RequestedInstanceCount": request["InstanceCount"],
        "RunningInstanceCount": len(_running(record, collection)),
        "Status": _collection_status(record),
        "Configurations": request.get("Configurations", []),
        "EbsBlockDevices": [],
        "ShrinkPolicy": {},
    }


def fleet(record: Cluster, collection: InstanceCollection) -> dict[str, Any]:
    """Return ListInstanceFleets' InstanceFleet."""
    request = collection.request
    running = _running(record, collection)
    on_demand = tuple(machine for machine in running if machine.market == "ON_DEMAND")
    spot = tuple(machine for machine in running if machine.market == "SPOT")
    return {
        "Id": collection.id,
        "Name": collection.name,
        "Status": _collection_status(record),
        "InstanceFleetType": collection.role,
        "TargetOnDemandCapacity": request.get("TargetOnDemandCapacity", 0),
        "TargetSpotCapacity": request.get("TargetSpotCapacity", 0),
        "ProvisionedOnDemandCapacity": fleet_capacity(collection, on_demand),
        "ProvisionedSpotCapacity": fleet_capacity(collection, spot),
        "InstanceTypeSpecifications": [
            {name: value for name, value in config.items() if name != "EbsConfiguration"}
            for config in request["InstanceTypeConfigs"]
        ],
        "LaunchSpecifications": request.get("LaunchSpecifications"),
        "ResizeSpecifications": request.get("ResizeSpecifications"),
    }


def _running(record: Cluster, collection: InstanceCollection) -> tuple[Instance, ...]:
    return tuple(
        machine
        for machine in record.instances
        if machine.collection_id == collection.id and instance_state(record, machine) == "RUNNING"
    )


def _collection_status(record: Cluster) -> dict[str, Any]:
    state: str = record.state
    if record.state in ENDED:
        state = "TERMINATED"
    elif record.state != ClusterState.TERMINATING:
        state = _PRESENT[record.state]
    return {
        "State": state,
        "StateChangeReason": {"Code": "CLUSTER_TERMINATED" if record.state in CLOSED else None},
        "Timeline": _timeline(record.created_at, record.ready_at, record.ended_at),
    }


def _ec2_attributes(request: dict[str, Any]) -> dict[str, Any]:
    instances = request["Instances"]
    subnets = instances.get("Ec2SubnetIds", [])
    copied = (
        "Ec2KeyName",
        "EmrManagedMasterSecurityGroup",
        "EmrManagedSlaveSecurityGroup",
        "ServiceAccessSecurityGroup",
        "AdditionalMasterSecurityGroups",
        "AdditionalSlaveSecurityGroups",
    )
    return {name: instances.get(name) for name in copied} | {
        "Ec2SubnetId": instances.get("Ec2SubnetId", subnets[0] if subnets else None),
        "RequestedEc2SubnetIds": subnets,
        "Ec2AvailabilityZone": instances.get("Placement", {}).get("AvailabilityZone"),
        "RequestedEc2AvailabilityZones": instances.get("Placement", {}).get("AvailabilityZones"),
        "IamInstanceProfile": request["JobFlowRole"],
    }


def _applications(request: dict[str, Any]) -> list[dict[str, Any]]:
    versions = RELEASES[request["ReleaseLabel"]]
    names = [application.get("Name", "") for application in request.get("Applications", [])]
    return [{"Name": name, "Version": versions.get(name)} for name in names]


def _timeline(created: float, ready: float | None, ended: float | None) -> dict[str, Any]:
    return {"CreationDateTime": created, "ReadyDateTime": ready, "EndDateTime": ended}
