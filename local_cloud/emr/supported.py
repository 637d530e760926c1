"""What of EMR's requests this endpoint takes: a parameter that is not listed is refused by name.

HONOURED parameters change what happens here. RECORDED ones name what a single machine does not
have (networks, roles, disks, encryption, markets): they are kept and shown again by the Describe
and List actions, and in the journal. `*` at the end of a path stands for everything below it.

Some actions no code here calls. Operators do with the AWS CLI, and tests with what somebody may
have done to a cluster by hand: tags taken away, another idle limit, a scaling policy.
"""

from __future__ import annotations

_STEP = ("Name", "ActionOnFailure", "HadoopJarStep.Jar", "HadoopJarStep.Args")
_CONFIGURATIONS = "Configurations.*"
_GROUP = "Instances.InstanceGroups"
_FLEET = "Instances.InstanceFleets"
_SCALING = "ManagedScalingPolicy"

HONOURED: dict[str, frozenset[str]] = {
    "RunJobFlow": frozenset(
        {
            "Name",
            "LogUri",
            "ReleaseLabel",
            "Instances.MasterInstanceType",
            "Instances.SlaveInstanceType",
            "Instances.InstanceCount",
            *(f"{_GROUP}.{n}" for n in ("Name", "InstanceRole", "InstanceType", "InstanceCount")),
            *(f"{_FLEET}.{n}" for n in ("Name", "InstanceFleetType")),
            *(f"{_FLEET}.{n}" for n in ("TargetOnDemandCapacity", "TargetSpotCapacity")),
            f"{_FLEET}.InstanceTypeConfigs.InstanceType",
            f"{_FLEET}.InstanceTypeConfigs.WeightedCapacity",
            "Instances.KeepJobFlowAliveWhenNoSteps",
            "Instances.TerminationProtected",
            *(f"Steps.{name}" for name in _STEP),
            "BootstrapActions.*",
            _CONFIGURATIONS,
            "Tags.*",
            "StepConcurrencyLevel",
            "AutoTerminationPolicy.*",
            f"{_SCALING}.*",
        }
    ),
    "AddJobFlowSteps": frozenset({"JobFlowId", *(f"Steps.{name}" for name in _STEP)}),
    "AddTags": frozenset({"ResourceId", "Tags.*"}),
    "RemoveTags": frozenset({"ResourceId", "TagKeys"}),
    "CancelSteps": frozenset({"ClusterId", "StepIds", "StepCancellationOption"}),
    "DescribeCluster": frozenset({"ClusterId"}),
    "DescribeReleaseLabel": frozenset({"ReleaseLabel"}),
    "DescribeStep": frozenset({"ClusterId", "StepId"}),
    "GetAutoTerminationPolicy": frozenset({"ClusterId"}),
    "GetManagedScalingPolicy": frozenset({"ClusterId"}),
    "ListBootstrapActions": frozenset({"ClusterId", "Marker"}),
    "ListClusters": frozenset({"CreatedAfter", "CreatedBefore", "ClusterStates", "Marker"}),
    "ListInstanceFleets": frozenset({"ClusterId", "Marker"}),
    "ListInstanceGroups": frozenset({"ClusterId", "Marker"}),
    "ListInstances": frozenset(
        {
            "ClusterId",
            "InstanceGroupId",
            "InstanceGroupTypes",
            "InstanceFleetId",
            "InstanceFleetType",
            "InstanceStates",
            "Marker",
        }
    ),
    "ListSteps": frozenset({"ClusterId", "StepStates", "StepIds", "Marker"}),
    "PutAutoTerminationPolicy": frozenset({"ClusterId", "AutoTerminationPolicy.*"}),
    "PutManagedScalingPolicy": frozenset({"ClusterId", f"{_SCALING}.*"}),
    "RemoveAutoTerminationPolicy": frozenset({"ClusterId"}),
    "SetKeepJobFlowAliveWhenNoSteps": frozenset({"JobFlowIds", "KeepJobFlowAliveWhenNoSteps"}),
    "SetTerminationProtection": frozenset({"JobFlowIds", "TerminationProtected"}),
    "TerminateJobFlows": frozenset({"JobFlowIds"}),
}

RECORDED: dict[str, frozenset[str]] = {
    "RunJobFlow": frozenset(
        {
            *(f"{_GROUP}.{n}" for n in ("Market", "BidPrice", "EbsConfiguration.*")),
            f"{_GROUP}.{_CONFIGURATIONS}",
            *(f"{_FLEET}.InstanceTypeConfigs.{n}" for n in ("BidPrice", "Priority")),
            f"{_FLEET}.InstanceTypeConfigs.BidPriceAsPercentageOfOnDemandPrice",
            f"{_FLEET}.InstanceTypeConfigs.EbsConfiguration.*",
            f"{_FLEET}.InstanceTypeConfigs.{_CONFIGURATIONS}",
            f"{_FLEET}.LaunchSpecifications.*",
            f"{_FLEET}.ResizeSpecifications.*",
            "Instances.Ec2KeyName",
            "Instances.Placement.*",
            "Instances.UnhealthyNodeReplacement",
            "Instances.Ec2SubnetId",
            "Instances.Ec2SubnetIds",
            "Instances.EmrManagedMasterSecurityGroup",
            "Instances.EmrManagedSlaveSecurityGroup",
            "Instances.ServiceAccessSecurityGroup",
            "Instances.AdditionalMasterSecurityGroups",
            "Instances.AdditionalSlaveSecurityGroups",
            "Applications.Name",
            "VisibleToAllUsers",
            "JobFlowRole",
            "ServiceRole",
            "AutoScalingRole",
            "SecurityConfiguration",
            "LogEncryptionKmsKeyId",
            "MonitoringConfiguration.*",
            "ScaleDownBehavior",
            "EbsRootVolumeSize",
            "EbsRootVolumeIops",
            "EbsRootVolumeThroughput",
            "OSReleaseLabel",
        }
    ),
}


def unsupported(action: str, parameters: dict[str, object]) -> list[str]:
    """Return the paths in *parameters* that this endpoint would have to ignore, sorted."""
    taken = HONOURED[action] | RECORDED.get(action, frozenset())
    return sorted({path for path in _leaves(parameters) if not _takes(taken, path)})


def _takes(taken: frozenset[str], path: str) -> bool:
    if path in taken:
        return True
    parts = path.split(".")
    return any(".".join([*parts[:end], "*"]) in taken for end in range(1, len(parts) + 1))


def _leaves(value: object, path: str = "") -> list[str]:
    """Return the dotted paths of *value*'s leaves; the items of a list share their path."""
    if isinstance(value, dict) and value:
        return [
            leaf
            for name, below in value.items()
            for leaf in _leaves(below, f"{path}.{name}" if path else name)
        ]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [leaf for item in value for leaf in _leaves(item, path)]
    # An empty list or structure asks for nothing: it stands for itself, and its parent is known.
    return [] if value in ({}, []) else [path]
