"""The EMR cluster as a request: settings in, dict out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from fruits.costs import Role, read_prices
from fruits.spark_sizing import executor_settings

if TYPE_CHECKING:
    from fruits.costs import Price
    from fruits.settings import Settings
    from fruits.steps import StagedJobs

TOKEN_TAG = "fruits:token"  # noqa: S105  (the name of a tag)
GENERATION_TAG = "fruits:generation"
CAP_TAG = "fruits:cap-minutes"
# The most that Settings allows: for a cluster whose tag was lost or garbled by hand.
LONGEST_CAP = timedelta(minutes=1440)
# Logs may name images. By default EMR keeps copies of some, where no retention of ours reaches; the
# interfaces of ended applications are made of theirs, and cannot be kept here alone.
KEEP_NO_LOGS = {
    "system-logs": "on-customer-s3only",
    "application-logs": "on-customer-s3only",
    "persistent-ui-logs": "disabled",
}
DISK_GB = 64
ROOT_DISK_GB = 15  # EMR's default root volume
NODE_DISK_GB = DISK_GB + ROOT_DISK_GB


def cluster_roles(settings: Settings) -> tuple[Role, ...]:
    """Return the nodes that the cluster has at the most, for pricing."""
    return (
        Role("primary", settings.primary_instance_type, 1, NODE_DISK_GB),
        Role("workers", _dearest_worker(settings), settings.workers, NODE_DISK_GB),
    )


def worker_instance_types(settings: Settings) -> tuple[str, ...]:
    """Return the types that a worker may be: on the Spot market all of the same size.

    Where only one type is asked for, its lack of Spot capacity is a lack of workers.
    """
    if settings.market.value != "SPOT":
        return (settings.worker_instance_type,)
    prices = read_prices(settings.region)
    wanted = prices.price(settings.worker_instance_type)
    size = (wanted.vcpus, wanted.memory_gib)
    return tuple(
        name
        for name, price in sorted(prices.instances.items())
        if (price.vcpus, price.memory_gib) == size
    )


def cluster_name(token: str) -> str:
    """Return the name of the cluster of *token*: what ListClusters can be searched by."""
    return f"fruits {token}"


def cap_in(tags: Mapping[str, str]) -> timedelta:
    """Return the longest life that a cluster's *tags* say, or LONGEST_CAP where they say none."""
    minutes = tags.get(CAP_TAG, "")
    if not (minutes.isdecimal() and len(minutes) < 8):
        return LONGEST_CAP
    return min(timedelta(minutes=int(minutes)), LONGEST_CAP)


def run_job_flow_request(
    settings: Settings, staged: StagedJobs, token: str, generation: int
) -> dict[str, Any]:
    """Return RunJobFlow's parameters for a cluster that ends itself whatever becomes of us.

    It ends when idle for ``idle_minutes``, and after ``cap_minutes`` by a timer on its primary
    node, which works because the cluster is not termination-protected.
    """
    return {
        "Name": cluster_name(token),
        "ReleaseLabel": settings.release_label,
        "Applications": [{"Name": "Spark"}],
        "LogUri": f"{settings.lake}/logs/",
        "MonitoringConfiguration": {
            "S3LoggingConfiguration": {"LogTypeUploadPolicy": KEEP_NO_LOGS}
        },
        "ServiceRole": settings.service_role,
        "JobFlowRole": settings.instance_profile,
        "Instances": _instances(settings),
        "BootstrapActions": [
            # The timer first: an installation that hangs must not be without it.
            _limit_lifetime(settings, staged),
            _install_python_env(settings, staged),
        ],
        "Configurations": _configurations(settings),
        "AutoTerminationPolicy": {"IdleTimeout": settings.idle_minutes * 60},
        "StepConcurrencyLevel": 1,
        "VisibleToAllUsers": True,
        "EbsRootVolumeSize": ROOT_DISK_GB,
        "Tags": _tags(token, generation, settings.cap_minutes),
        **_encryption(settings),
    }


def _encryption(settings: Settings) -> dict[str, str]:
    chosen = {
        "SecurityConfiguration": settings.security_configuration,
        # Without it EMR encrypts logs with a key of its own choice.
        "LogEncryptionKmsKeyId": settings.log_key,
    }
    return {name: value for name, value in chosen.items() if value}


def _instances(settings: Settings) -> dict[str, Any]:
    return {
        **_network(settings),
        "InstanceFleets": [_primary_fleet(settings), _worker_fleet(settings)],
        "KeepJobFlowAliveWhenNoSteps": True,
        "TerminationProtected": False,
    }


def _network(settings: Settings) -> dict[str, Any]:
    chosen = {
        "Ec2SubnetIds": [settings.subnet_id] if settings.subnet_id else None,
        # EMR makes groups of its own where it is given none, and leaves them behind.
        "EmrManagedMasterSecurityGroup": settings.primary_security_group,
        "EmrManagedSlaveSecurityGroup": settings.worker_security_group,
        "ServiceAccessSecurityGroup": settings.service_security_group,
    }
    return {name: value for name, value in chosen.items() if value}


def _primary_fleet(settings: Settings) -> dict[str, Any]:
    return {
        "Name": "primary",
        "InstanceFleetType": "MASTER",
        "TargetOnDemandCapacity": 1,
        "InstanceTypeConfigs": [_instance_type(settings.primary_instance_type)],
    }


def _worker_fleet(settings: Settings) -> dict[str, Any]:
    fleet: dict[str, Any] = {
        "Name": "workers",
        "InstanceFleetType": "CORE",
        "InstanceTypeConfigs": [_instance_type(name) for name in worker_instance_types(settings)],
    }
    if settings.market.value == "SPOT":
        # A day without Spot capacity costs the on-demand price, which the cap assumes anyway.
        spot = {
            "TimeoutDurationMinutes": 10,
            "TimeoutAction": "SWITCH_TO_ON_DEMAND",
            "AllocationStrategy": "price-capacity-optimized",
        }
        on_demand = {"AllocationStrategy": "lowest-price"}
        specifications = {"SpotSpecification": spot, "OnDemandSpecification": on_demand}
        return {
            **fleet,
            "TargetSpotCapacity": settings.workers,
            "LaunchSpecifications": specifications,
        }
    return {**fleet, "TargetOnDemandCapacity": settings.workers}


def _dearest_worker(settings: Settings) -> str:
    prices = read_prices(settings.region)
    types = worker_instance_types(settings)
    # One type is priced, or refused, where the cost is counted.
    return types[0] if len(types) == 1 else max(types, key=lambda t: _hourly(prices.price(t)))


def _hourly(price: Price) -> float:
    return price.ec2 + price.emr


def _instance_type(name: str) -> dict[str, Any]:
    disk = {
        "VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": DISK_GB},
        "VolumesPerInstance": 1,
    }
    return {
        "InstanceType": name,
        "WeightedCapacity": 1,
        "EbsConfiguration": {"EbsBlockDeviceConfigs": [disk]},
    }


def _limit_lifetime(settings: Settings, staged: StagedJobs) -> dict[str, Any]:
    return {
        "Name": "limit lifetime",
        "ScriptBootstrapAction": {
            "Path": staged.limit_lifetime,
            "Args": [str(settings.cap_minutes)],
        },
    }


def _install_python_env(settings: Settings, staged: StagedJobs) -> dict[str, Any]:
    # <environment>/bin/python; the wheelhouse's name is the hash of its lock.
    environment = PurePosixPath(settings.node_python).parent.parent
    return {
        "Name": "install Python environment",
        "ScriptBootstrapAction": {
            "Path": staged.install_python_env,
            "Args": [
                staged.wheelhouse,
                PurePosixPath(staged.wheelhouse).name,
                str(environment),
                settings.region,
            ],
        },
    }


def _configurations(settings: Settings) -> list[dict[str, Any]]:
    worker = read_prices(settings.region).price(settings.worker_instance_type)
    spark = {
        **executor_settings(
            settings.worker_instance_type, worker, settings.workers, settings.engine
        ),
        "spark.driver.memory": "2g",
        # How many tasks there are follows from the cores: all of them, not the first to come.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": "120s",
        "spark.pyspark.python": settings.node_python,
        "spark.pyspark.driver.python": settings.node_python,
        # Readers of the tables know microseconds; Spark would write INT96.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    }
    return [{"Classification": "spark-defaults", "Properties": spark}]


def _tags(token: str, generation: int, cap_minutes: int) -> list[dict[str, str]]:
    tags = {
        TOKEN_TAG: token,
        # What the cluster costs is charged to the promise that allowed it.
        GENERATION_TAG: str(generation),
        # The watchdog knows tags and leases, no settings: the cap travels with the cluster.
        CAP_TAG: str(cap_minutes),
        # AmazonEMRServicePolicy_v2 lets EMR touch nothing without this tag.
        "for-use-with-amazon-emr-managed-policies": "true",
    }
    return [{"Key": key, "Value": value} for key, value in tags.items()]
