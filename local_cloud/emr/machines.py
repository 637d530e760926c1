"""The machines of a cluster: instance groups in either form, or instance fleets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from local_cloud.emr import identifiers
from local_cloud.emr.errors import ValidationError
from local_cloud.emr.model import Instance, InstanceCollection

_FORMS = ("InstanceGroups", "InstanceFleets", "MasterInstanceType")
_SIMPLE = ("MasterInstanceType", "SlaveInstanceType", "InstanceCount")


def collections_of(instances: dict[str, Any]) -> tuple[InstanceCollection, ...]:
    """Return the groups or fleets that a request's Instances ask for, the primary's first."""
    used = [form for form in _FORMS if instances.get(form)]
    if len(used) != 1:
        raise ValidationError(
            f"Instances: give exactly one of {', '.join(_FORMS)}, not {', '.join(used) or 'none'}"
        )
    if used != ["MasterInstanceType"] and (mixed := [n for n in _SIMPLE if n in instances]):
        raise ValidationError(f"Instances: {', '.join(mixed)} cannot be given with {used[0]}")
    if used == ["InstanceFleets"]:
        collections = [_fleet(config) for config in instances["InstanceFleets"]]
    elif used == ["InstanceGroups"]:
        collections = [_group(config) for config in instances["InstanceGroups"]]
    else:
        collections = [_group(config) for config in _simple_form(instances)]
    _check_roles(collections)
    return tuple(sorted(collections, key=lambda c: ("MASTER", "CORE", "TASK").index(c.role)))


def instances_of(collections: tuple[InstanceCollection, ...]) -> tuple[Instance, ...]:
    """Return the instances that the collections get, all at once; the first of a role is a node."""
    machines: list[Instance] = []
    for collection in collections:
        for instance_type, market in _wanted(collection):
            machines.append(
                Instance(
                    id=identifiers.new("ci"),
                    ec2_id=identifiers.new_ec2(),
                    collection_id=collection.id,
                    role=collection.role,
                    instance_type=instance_type,
                    market=market,
                    has_node=all(machine.role != collection.role for machine in machines),
                )
            )
    return tuple(machines)


def fleet_capacity(collection: InstanceCollection, instances: tuple[Instance, ...]) -> int:
    """Return the weighted capacity that *instances* give to a fleet."""
    weights = {
        config["InstanceType"]: config.get("WeightedCapacity", 1)
        for config in collection.request["InstanceTypeConfigs"]
    }
    return sum(weights[instance.instance_type] for instance in instances)


def _simple_form(instances: dict[str, Any]) -> Iterator[dict[str, Any]]:
    count = instances.get("InstanceCount", 1)
    if count < 1:
        raise ValidationError(f"Instances.InstanceCount: {count} is less than 1")
    yield {
        "InstanceRole": "MASTER",
        "InstanceType": instances["MasterInstanceType"],
        "InstanceCount": 1,
    }
    if count > 1:
        if "SlaveInstanceType" not in instances:
            raise ValidationError("Instances.SlaveInstanceType is required with InstanceCount > 1")
        yield {
            "InstanceRole": "CORE",
            "InstanceType": instances["SlaveInstanceType"],
            "InstanceCount": count - 1,
        }


def _group(config: dict[str, Any]) -> InstanceCollection:
    if config["InstanceCount"] < (0 if config["InstanceRole"] == "TASK" else 1):
        raise ValidationError(
            f"InstanceGroups.InstanceCount: {config['InstanceCount']} is too few "
            f"for {config['InstanceRole']}"
        )
    return InstanceCollection(
        identifiers.new("ig"),
        config["InstanceRole"],
        config.get("Name", config["InstanceRole"].title()),
        config.get("Market", "ON_DEMAND"),
        config,
    )


def _fleet(config: dict[str, Any]) -> InstanceCollection:
    role = config["InstanceFleetType"]
    if not config.get("InstanceTypeConfigs"):
        raise ValidationError(f"InstanceFleets.InstanceTypeConfigs is required for {role}")
    capacity = config.get("TargetOnDemandCapacity", 0) + config.get("TargetSpotCapacity", 0)
    if not capacity and role != "TASK":
        raise ValidationError(f"InstanceFleets: {role} has no target capacity")
    spot = config.get("LaunchSpecifications", {}).get("SpotSpecification")
    if spot and not 5 <= spot["TimeoutDurationMinutes"] <= 1440:
        raise ValidationError(
            f"SpotSpecification.TimeoutDurationMinutes: {spot['TimeoutDurationMinutes']} "
            "is not between 5 and 1440"
        )
    name = config.get("Name", role.title())
    return InstanceCollection(identifiers.new("if"), role, name, "", config)


def _check_roles(collections: list[InstanceCollection]) -> None:
    roles = [collection.role for collection in collections]
    for role in ("MASTER", "CORE"):
        if roles.count(role) > 1:
            raise ValidationError(f"Instances: {role} is asked for {roles.count(role)} times")
    if "MASTER" not in roles:
        raise ValidationError("Instances: a MASTER instance group or fleet is required")
    if "TASK" in roles and "CORE" not in roles:
        raise ValidationError("Instances: TASK instances need CORE instances")
    primary = next(c for c in collections if c.role == "MASTER")
    if (count := len(list(_wanted(primary)))) != 1:
        raise ValidationError(f"Instances: {count} MASTER instances are not supported, 1 is")


def _wanted(collection: InstanceCollection) -> Iterator[tuple[str, str]]:
    """Yield (instance type, market) per machine; a fleet is filled with its first type."""
    request = collection.request
    if "InstanceTypeConfigs" not in request:
        yield from [(request["InstanceType"], collection.market)] * request["InstanceCount"]
        return
    first = request["InstanceTypeConfigs"][0]
    weight = max(first.get("WeightedCapacity", 1), 1)
    for name, market in (("TargetOnDemandCapacity", "ON_DEMAND"), ("TargetSpotCapacity", "SPOT")):
        yield from [(first["InstanceType"], market)] * -(-request.get(name, 0) // weight)
