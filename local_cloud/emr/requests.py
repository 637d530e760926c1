"""From a checked request to records, with the rules of EMR that its model does not hold."""

from __future__ import annotations

from typing import Any

from local_cloud.emr import identifiers
from local_cloud.emr.errors import ValidationError
from local_cloud.emr.machines import collections_of, instances_of
from local_cloud.emr.model import ACTIVE_STEP, BootstrapAction, Cluster, Step
from local_cloud.emr.releases import RELEASES

COMMAND_RUNNER = "command-runner.jar"
MAX_ACTIVE_STEPS = 256
IDLE_TIMEOUT = (60, 604_800)


def cluster_from(parameters: dict[str, Any], region: str, now: float) -> Cluster:
    """Return the cluster that RunJobFlow's *parameters* ask for; ValidationError by name."""
    instances = parameters["Instances"]
    _check_named_parameters(parameters)
    concurrency = parameters.get("StepConcurrencyLevel", 1)
    if not 1 <= concurrency <= MAX_ACTIVE_STEPS:
        raise ValidationError(f"StepConcurrencyLevel: {concurrency} is not between 1 and 256")
    collections = collections_of(instances)
    policy = parameters.get("AutoTerminationPolicy")
    return Cluster(
        id=identifiers.new("j"),
        name=parameters["Name"],
        region=region,
        request=parameters,
        created_at=now,
        keep_alive=instances.get("KeepJobFlowAliveWhenNoSteps", False),
        termination_protected=instances.get("TerminationProtected", False),
        concurrency=concurrency,
        idle_timeout=idle_timeout_from(policy) if policy is not None else None,
        scaling_policy=scaling_policy_from(parameters.get("ManagedScalingPolicy")),
        tags=tags_from(parameters.get("Tags", [])),
        collections=collections,
        instances=instances_of(collections),
        bootstrap_actions=_bootstrap_actions(parameters.get("BootstrapActions", [])),
        steps=steps_from(parameters.get("Steps", []), concurrency, now),
    )


def _check_named_parameters(parameters: dict[str, Any]) -> None:
    release = parameters.get("ReleaseLabel")
    if release not in RELEASES:
        raise ValidationError(
            f"The supplied release label is invalid: {release}. Known here: {', '.join(RELEASES)}"
        )
    if not parameters.get("JobFlowRole"):
        raise ValidationError("InstanceProfile is required for creating cluster (JobFlowRole).")
    if not parameters.get("ServiceRole"):
        raise ValidationError("ServiceRole is required for creating cluster.")
    if (log_uri := parameters.get("LogUri")) is not None:
        _check_s3_uri("LogUri", log_uri)


def steps_from(
    configs: list[dict[str, Any]], concurrency: int, now: float, active: int = 0
) -> tuple[Step, ...]:
    """Return new steps for StepConfigs; *active* is how many the cluster already has."""
    if active + len(configs) > MAX_ACTIVE_STEPS:
        raise ValidationError(
            "Maximum number of active steps(State = 'Running', 'Pending' or 'Cancel_Pending') "
            f"for cluster exceeded: {active} + {len(configs)} > {MAX_ACTIVE_STEPS}"
        )
    return tuple(_step(config, concurrency, now) for config in configs)


def _step(config: dict[str, Any], concurrency: int, now: float) -> Step:
    action = config.get("ActionOnFailure", "TERMINATE_CLUSTER")
    if concurrency > 1 and action != "CONTINUE":
        raise ValidationError(
            f"ActionOnFailure: {action} is not valid with StepConcurrencyLevel {concurrency} > 1, "
            "use CONTINUE"
        )
    jar, args = config["HadoopJarStep"]["Jar"], config["HadoopJarStep"].get("Args", [])
    _check_command(jar, args)
    return Step(
        id=identifiers.new("s"),
        name=config["Name"],
        jar=jar,
        args=tuple(args),
        action_on_failure=action,
        created_at=now,
    )


def _check_command(jar: str, args: list[str]) -> None:
    if jar != COMMAND_RUNNER:
        raise ValidationError(f"HadoopJarStep.Jar: {jar!r} is not supported, use {COMMAND_RUNNER}")
    known = args[:1] == ["spark-submit"] or args[:2] == ["bash", "-c"]
    if not known or len(args) < 2:
        raise ValidationError(
            f"HadoopJarStep.Args: {' '.join(args[:2]) or '(empty)'!r} is not supported, "
            "use `spark-submit …` or `bash -c …`"
        )


def _bootstrap_actions(configs: list[dict[str, Any]]) -> tuple[BootstrapAction, ...]:
    for config in configs:
        _check_s3_uri("BootstrapActions.Path", config["ScriptBootstrapAction"]["Path"])
    return tuple(
        BootstrapAction(
            config["Name"],
            config["ScriptBootstrapAction"]["Path"],
            tuple(config["ScriptBootstrapAction"].get("Args", [])),
        )
        for config in configs
    )


def _check_s3_uri(name: str, uri: str) -> None:
    bucket = uri.removeprefix("s3://").split("/")[0]
    if not uri.startswith("s3://") or not bucket:
        raise ValidationError(f"{name}: {uri!r} must be an s3://bucket/… URI")


def tags_from(tags: list[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the tags as pairs; the last of two with the same key wins."""
    for tag in tags:
        if not tag.get("Key"):
            raise ValidationError("Tags: a tag needs a Key")
    return tuple({tag["Key"]: tag.get("Value", "") for tag in tags}.items())


def idle_timeout_from(policy: dict[str, Any] | None) -> int:
    """Return the policy's idle timeout in seconds, which EMR bounds to a minute and a week."""
    least, most = IDLE_TIMEOUT
    seconds = (policy or {}).get("IdleTimeout")
    if seconds is None or not least <= seconds <= most:
        raise ValidationError(
            f"AutoTerminationPolicy.IdleTimeout: {seconds} is not between {least} and {most} s"
        )
    return int(seconds)


def scaling_policy_from(policy: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a managed scaling policy whose limits are in order, unchanged."""
    if policy is None:
        return None
    limits = policy.get("ComputeLimits")
    if limits is None:
        raise ValidationError("ManagedScalingPolicy.ComputeLimits is required")
    least, most = limits["MinimumCapacityUnits"], limits["MaximumCapacityUnits"]
    if not 1 <= least <= most:
        raise ValidationError(
            f"ManagedScalingPolicy.ComputeLimits: 1 <= minimum {least} <= maximum {most} is needed"
        )
    for name in ("MaximumOnDemandCapacityUnits", "MaximumCoreCapacityUnits"):
        if not 0 <= limits.get(name, 0) <= most:
            raise ValidationError(f"ManagedScalingPolicy.ComputeLimits.{name} is more than {most}")
    return policy


def active_steps(cluster: Cluster) -> int:
    """Return how many steps count towards EMR's limit of active ones."""
    return len(cluster.steps_in(ACTIVE_STEP))
