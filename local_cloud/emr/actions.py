"""EMR's actions: each takes a checked call and gives the answer's dictionary."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from local_cloud.emr import events, requests, views
from local_cloud.emr.control import ControlPlane
from local_cloud.emr.errors import InvalidRequestError, ValidationError
from local_cloud.emr.model import CLOSED, Cluster, ClusterState, Instance, Step, StepState
from local_cloud.emr.paging import page
from local_cloud.emr.protocol import Call
from local_cloud.emr.releases import RELEASES

Answer = dict[str, Any]

MAX_JOB_FLOW_IDS = 10
MAX_STEP_IDS = 10
_LISTED_INSTANCES = 2000
_CANCELLABLE = frozenset({StepState.PENDING, StepState.RUNNING})


def run_job_flow(call: Call, plane: ControlPlane) -> Answer:
    """RunJobFlow."""
    cluster = requests.cluster_from(call.parameters, call.region, plane.clock())
    plane.create(cluster)
    return {"JobFlowId": cluster.id, "ClusterArn": cluster.arn}


def describe_cluster(call: Call, plane: ControlPlane) -> Answer:
    """DescribeCluster."""
    return {"Cluster": views.cluster(_cluster(call, plane))}


def list_clusters(call: Call, plane: ControlPlane) -> Answer:
    """ListClusters, newest first."""
    wanted = call.parameters
    after, before = _seconds(wanted.get("CreatedAfter")), _seconds(wanted.get("CreatedBefore"))
    states = wanted.get("ClusterStates") or list(ClusterState)

    def keep(cluster: Cluster) -> bool:
        young = after is None or cluster.created_at > after
        old = before is None or cluster.created_at < before
        return young and old and cluster.state in states

    shown, marker = page(plane.clusters(call.region), _id, wanted.get("Marker"), keep)
    return {"Clusters": [views.summary(cluster) for cluster in shown], "Marker": marker}


def add_job_flow_steps(call: Call, plane: ControlPlane) -> Answer:
    """AddJobFlowSteps."""
    cluster = _open_job_flow(call.parameters["JobFlowId"], call, plane)
    active = requests.active_steps(cluster)
    configs = call.parameters["Steps"]
    steps = requests.steps_from(configs, cluster.concurrency, plane.clock(), active)
    plane.send(cluster.id, events.StepsAdded(steps))
    return {"StepIds": [step.id for step in steps]}


def describe_step(call: Call, plane: ControlPlane) -> Answer:
    """DescribeStep."""
    cluster = _cluster(call, plane)
    step = cluster.step(call.parameters["StepId"])
    if step is None:
        raise InvalidRequestError(f"Step id '{call.parameters['StepId']}' is not valid.")
    return {"Step": views.step(cluster, step)}


def list_steps(call: Call, plane: ControlPlane) -> Answer:
    """ListSteps, newest first."""
    wanted = call.parameters
    cluster = _cluster(call, plane)
    ids = wanted.get("StepIds")
    if ids and len(ids) > MAX_STEP_IDS:
        raise InvalidRequestError(f"StepIds: {len(ids)} ids are more than {MAX_STEP_IDS}")
    if unknown := [i for i in ids or [] if cluster.step(i) is None]:
        raise InvalidRequestError(f"Step id '{unknown[0]}' is not valid.")
    states = wanted.get("StepStates") or list(StepState)

    def keep(step: Step) -> bool:
        return step.state in states and (not ids or step.id in ids)

    shown, marker = page(cluster.steps[::-1], _id, wanted.get("Marker"), keep)
    return {"Steps": [views.step(cluster, step) for step in shown], "Marker": marker}


def cancel_steps(call: Call, plane: ControlPlane) -> Answer:
    """CancelSteps: pending steps at once, running ones once their processes are dead."""
    cluster = _cluster(call, plane)
    if cluster.state in CLOSED:
        raise InvalidRequestError(f"Cluster {cluster.id} is {cluster.state}: nothing to cancel.")
    ids = tuple(call.parameters["StepIds"])
    if not ids:
        raise ValidationError("StepIds: at least one step id is required")
    answers = [_cancel_info(cluster, step_id) for step_id in ids]
    force = call.parameters.get("StepCancellationOption") == "TERMINATE_PROCESS"
    plane.send(cluster.id, events.StepsCancelled(ids, force))
    return {"CancelStepsInfoList": answers}


def _cancel_info(cluster: Cluster, step_id: str) -> Answer:
    step = cluster.step(step_id)
    if step is None:
        raise InvalidRequestError(f"Step id '{step_id}' is not valid.")
    if step.state in _CANCELLABLE:
        return {"StepId": step_id, "Status": "SUBMITTED"}
    return {"StepId": step_id, "Status": "FAILED", "Reason": f"The step is {step.state}."}


def terminate_job_flows(call: Call, plane: ControlPlane) -> Answer:
    """TerminateJobFlows: all of them, or none when one is protected."""
    clusters = _job_flows(call, plane)
    if any(c.termination_protected and c.state not in CLOSED for c in clusters):
        raise ValidationError(
            "Could not shut down one or more job flows since they are termination protected."
        )
    for cluster in clusters:
        plane.send(cluster.id, events.TerminationRequested())
    return {}


def set_termination_protection(call: Call, plane: ControlPlane) -> Answer:
    """SetTerminationProtection."""
    for cluster in _job_flows(call, plane):
        plane.send(cluster.id, events.ProtectionSet(call.parameters["TerminationProtected"]))
    return {}


def set_keep_job_flow_alive(call: Call, plane: ControlPlane) -> Answer:
    """SetKeepJobFlowAliveWhenNoSteps."""
    for cluster in _job_flows(call, plane):
        alive = call.parameters["KeepJobFlowAliveWhenNoSteps"]
        plane.send(cluster.id, events.KeepAliveSet(alive))
    return {}


def put_auto_termination_policy(call: Call, plane: ControlPlane) -> Answer:
    """PutAutoTerminationPolicy."""
    cluster = _open_cluster(call, plane)
    seconds = requests.idle_timeout_from(call.parameters.get("AutoTerminationPolicy"))
    plane.send(cluster.id, events.IdleTimeoutSet(seconds))
    return {}


def get_auto_termination_policy(call: Call, plane: ControlPlane) -> Answer:
    """GetAutoTerminationPolicy."""
    seconds = _cluster(call, plane).idle_timeout
    return {"AutoTerminationPolicy": {"IdleTimeout": seconds} if seconds else None}


def remove_auto_termination_policy(call: Call, plane: ControlPlane) -> Answer:
    """RemoveAutoTerminationPolicy."""
    plane.send(_open_cluster(call, plane).id, events.IdleTimeoutSet(None))
    return {}


def put_managed_scaling_policy(call: Call, plane: ControlPlane) -> Answer:
    """PutManagedScalingPolicy: recorded; a local cluster does not scale."""
    policy = requests.scaling_policy_from(call.parameters["ManagedScalingPolicy"])
    plane.change(_open_cluster(call, plane), scaling_policy=policy)
    return {}


def get_managed_scaling_policy(call: Call, plane: ControlPlane) -> Answer:
    """GetManagedScalingPolicy."""
    return {"ManagedScalingPolicy": _cluster(call, plane).scaling_policy}


def list_instances(call: Call, plane: ControlPlane) -> Answer:
    """ListInstances."""
    wanted, cluster = call.parameters, _cluster(call, plane)
    roles = wanted.get("InstanceGroupTypes") or [wanted.get("InstanceFleetType")]
    collection = wanted.get("InstanceGroupId") or wanted.get("InstanceFleetId")
    states = wanted.get("InstanceStates")

    def keep(machine: Instance) -> bool:
        return (
            (roles == [None] or machine.role in roles)
            and (not collection or machine.collection_id == collection)
            and (not states or views.instance_state(cluster, machine) in states)
        )

    marker = wanted.get("Marker")
    shown, marker = page(cluster.instances, _id, marker, keep, size=_LISTED_INSTANCES)
    return {"Instances": [views.instance(cluster, one) for one in shown], "Marker": marker}


def list_instance_groups(call: Call, plane: ControlPlane) -> Answer:
    """ListInstanceGroups; as on EMR, refused for a cluster of fleets."""
    cluster = _cluster(call, plane)
    if cluster.uses_fleets:
        raise InvalidRequestError("Instance fleets and instance groups are mutually exclusive.")
    shown, marker = page(cluster.collections, _id, call.parameters.get("Marker"))
    return {"InstanceGroups": [views.group(cluster, one) for one in shown], "Marker": marker}


def list_instance_fleets(call: Call, plane: ControlPlane) -> Answer:
    """ListInstanceFleets; as on EMR, refused for a cluster of groups."""
    cluster = _cluster(call, plane)
    if not cluster.uses_fleets:
        raise InvalidRequestError("Instance fleets and instance groups are mutually exclusive.")
    shown, marker = page(cluster.collections, _id, call.parameters.get("Marker"))
    return {"InstanceFleets": [views.fleet(cluster, one) for one in shown], "Marker": marker}


def list_bootstrap_actions(call: Call, plane: ControlPlane) -> Answer:
    """ListBootstrapActions."""
    actions = list(enumerate(_cluster(call, plane).bootstrap_actions))
    shown, marker = page(actions, lambda item: str(item[0]), call.parameters.get("Marker"))
    return {
        "BootstrapActions": [
            {"Name": one.name, "ScriptPath": one.path, "Args": list(one.args)} for _, one in shown
        ],
        "Marker": marker,
    }


def add_tags(call: Call, plane: ControlPlane) -> Answer:
    """AddTags: a key that exists gets the new value."""
    cluster = plane.cluster(call.parameters["ResourceId"], call.region)
    tags = dict(cluster.tags) | dict(requests.tags_from(call.parameters["Tags"]))
    plane.change(cluster, tags=tuple(tags.items()))
    return {}


def remove_tags(call: Call, plane: ControlPlane) -> Answer:
    """RemoveTags."""
    cluster = plane.cluster(call.parameters["ResourceId"], call.region)
    gone = call.parameters["TagKeys"]
    plane.change(cluster, tags=tuple(tag for tag in cluster.tags if tag[0] not in gone))
    return {}


def describe_release_label(call: Call, _plane: ControlPlane) -> Answer:
    """DescribeReleaseLabel."""
    label = call.parameters.get("ReleaseLabel")
    if label not in RELEASES:
        raise InvalidRequestError(f"Release label '{label}' is not valid.")
    applications = [{"Name": n, "Version": v} for n, v in RELEASES[label].items()]
    return {"ReleaseLabel": label, "Applications": applications}


ACTIONS: dict[str, Callable[[Call, ControlPlane], Answer]] = {
    "RunJobFlow": run_job_flow,
    "DescribeCluster": describe_cluster,
    "ListClusters": list_clusters,
    "AddJobFlowSteps": add_job_flow_steps,
    "DescribeStep": describe_step,
    "ListSteps": list_steps,
    "CancelSteps": cancel_steps,
    "TerminateJobFlows": terminate_job_flows,
    "SetTerminationProtection": set_termination_protection,
    "SetKeepJobFlowAliveWhenNoSteps": set_keep_job_flow_alive,
    "PutAutoTerminationPolicy": put_auto_termination_policy,
    "GetAutoTerminationPolicy": get_auto_termination_policy,
    "RemoveAutoTerminationPolicy": remove_auto_termination_policy,
    "PutManagedScalingPolicy": put_managed_scaling_policy,
    "GetManagedScalingPolicy": get_managed_scaling_policy,
    "ListInstances": list_instances,
    "ListInstanceGroups": list_instance_groups,
    "ListInstanceFleets": list_instance_fleets,
    "ListBootstrapActions": list_bootstrap_actions,
    "AddTags": add_tags,
    "RemoveTags": remove_tags,
    "DescribeReleaseLabel": describe_release_label,
}


def _cluster(call: Call, plane: ControlPlane) -> Cluster:
    return plane.cluster(call.parameters["ClusterId"], call.region)


def _open_cluster(call: Call, plane: ControlPlane) -> Cluster:
    cluster = _cluster(call, plane)
    if cluster.state in CLOSED:
        raise InvalidRequestError(f"Cluster {cluster.id} is {cluster.state}: it cannot be changed.")
    return cluster


def _open_job_flow(job_flow_id: str, call: Call, plane: ControlPlane) -> Cluster:
    cluster = _job_flow(job_flow_id, call, plane)
    if cluster.state in CLOSED:
        raise ValidationError(
            "A job flow that is shutting down, terminated, or finished may not be modified."
        )
    return cluster


def _job_flow(job_flow_id: str, call: Call, plane: ControlPlane) -> Cluster:
    """Return a cluster for the actions of EMR's older API, which answer ValidationException."""
    try:
        return plane.cluster(job_flow_id, call.region)
    except InvalidRequestError:
        raise ValidationError(f"Specified job flow ID {job_flow_id} does not exist.") from None


def _job_flows(call: Call, plane: ControlPlane) -> list[Cluster]:
    ids = call.parameters["JobFlowIds"]
    if not 1 <= len(ids) <= MAX_JOB_FLOW_IDS:
        raise ValidationError(f"JobFlowIds: between 1 and {MAX_JOB_FLOW_IDS} ids, not {len(ids)}")
    return [_job_flow(job_flow_id, call, plane) for job_flow_id in ids]


def _id(item: Any) -> str:
    return str(item.id)


def _seconds(moment: float | str | None) -> float | None:
    """Return a request's timestamp as seconds since the epoch (JSON 1.1 allows ISO 8601 too)."""
    return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else moment
