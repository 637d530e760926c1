"""Requests to EMR: AWS's own model accepts them, and the jobs' own parsers read their arguments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from fruits.batches import Batch
from fruits.clusters import (
    CAP_TAG,
    GENERATION_TAG,
    TOKEN_TAG,
    cluster_name,
    cluster_roles,
    run_job_flow_request,
    worker_instance_types,
)
from fruits.settings import EU_REGIONS, Engine, Market, Scaler, Settings
from fruits.steps import StagedJobs, featurize_step, pca_step
from fruits_jobs.arguments import featurize_parser, pca_parser
from local_cloud.emr.supported import unsupported

STAGED = StagedJobs(
    featurize="s3://lake/jobs/1/featurize.py",
    pca="s3://lake/jobs/1/pca.py",
    package="s3://lake/jobs/1/fruits_jobs.zip",
    weights="s3://lake/weights/2/weights.h5",
    network="s3://lake/networks/model.parts.tflite",
    limit_lifetime="s3://lake/bootstrap/3/limit_lifetime.sh",
    install_python_env="s3://lake/bootstrap/4/install_python_env.sh",
    wheelhouse=f"s3://lake/wheelhouses/{'5' * 64}",
)
ATTEMPT = Batch("s3://lake", "20261121T030000-1a2b3c4d").numbered(1, 1)


@cache
def emr_model() -> ServiceModel:
    """Return AWS's own description of EMR."""
    return botocore.session.get_session().get_service_model("emr")


def validate(operation: str, parameters: dict[str, Any]) -> str:
    """Return what botocore's service model has against *parameters*, or an empty string."""
    shape = emr_model().operation_model(operation).input_shape
    report = ParamValidator().validate(parameters, shape)
    return str(report.generate_report())


def job_arguments(step: dict[str, Any]) -> list[str]:
    """Return what the entry point of *step* is called with."""
    words: list[str] = step["HadoopJarStep"]["Args"]
    return words[next(i for i, word in enumerate(words) if word.endswith(".py")) + 1 :]


NETWORKS: list[dict[str, str]] = [
    {},
    {"subnet_id": "subnet-0a1b2c3d"},
    {
        "subnet_id": "subnet-0a1b2c3d",
        "primary_security_group": "sg-1",
        "worker_security_group": "sg-2",
        "service_security_group": "sg-3",
    },
]
ENCRYPTED = {
    "security_configuration": "fruits",
    "log_key": "arn:aws:kms:eu-west-3:123456789012:key/0a1b",
}
MACHINES = {"market": list(Market), "worker_instance_type": ["m5.xlarge", "c5.4xlarge"]}
# A cluster's request looks at these settings, a step's at those: their product would say no more.
# Nor would that of all regions and the rest: a region says which machines there are.
OF_REGIONS = {"region": sorted(EU_REGIONS), **MACHINES}
OF_CLUSTERS = {
    **MACHINES,
    "release_label": ["emr-7.13.0", "emr-spark-8.1.0"],
    "network": NETWORKS,
    "encryption": [{}, ENCRYPTED],
    "workers": [1, 50],
    "cap_minutes": [2, 1440],
    "idle_minutes": [1, 120],
    "engine": list(Engine),
}
OF_STEPS = {"engine": list(Engine), "scaler": list(Scaler), "k": [None, 64]}


def combinations(grid: dict[str, list[Any]]) -> Iterator[Settings]:
    """Yield settings of every combination that is none of a contradiction."""
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        if chosen.get("idle_minutes", 0) < chosen.get("cap_minutes", 1):
            groups = chosen.pop("network", {}) | chosen.pop("encryption", {})
            # Looks that are frequent enough for an idle limit of a minute.
            yield Settings(poll_seconds=5, **groups, **chosen)


def test_every_cluster_request_fits_the_service_model() -> None:
    """Whatever is set, what we send has no unknown, missing or mistyped parameter."""
    checked = 0
    for settings in itertools.chain(combinations(OF_REGIONS), combinations(OF_CLUSTERS)):
        request = run_job_flow_request(settings, STAGED, "token", 1)
        assert validate("RunJobFlow", request) == ""
        checked += 1

    assert checked == 24 + 576


@pytest.mark.parametrize("settings", combinations(OF_STEPS))
def test_every_step_request_fits_the_service_model(settings: Settings) -> None:
    """As the cluster's request does."""
    steps = [featurize_step(settings, STAGED, ATTEMPT, "m"), pca_step(settings, STAGED, ATTEMPT)]

    assert validate("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": steps}) == ""


def test_the_cluster_says_whose_it_is() -> None:
    """Who knows no run and no settings finds token, generation and cap on the cluster."""
    request = run_job_flow_request(Settings(cap_minutes=90), STAGED, "token", 3)
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}

    assert request["Name"] == cluster_name("token")
    assert (tags[TOKEN_TAG], tags[GENERATION_TAG], tags[CAP_TAG]) == ("token", "3", "90")


def test_the_local_emr_knows_all_that_we_send() -> None:
    """It refuses what it does not model: nothing may only work on AWS."""
    settings = Settings(**NETWORKS[-1], **ENCRYPTED, market=Market.SPOT)  # type: ignore[arg-type]

    assert unsupported("RunJobFlow", run_job_flow_request(settings, STAGED, "t", 1)) == []


def test_a_cluster_is_private_and_encrypted_as_configured() -> None:
    """Subnet, groups, security configuration and the logs' key reach the request."""
    request = run_job_flow_request(Settings(**NETWORKS[-1], **ENCRYPTED), STAGED, "t", 1)  # type: ignore[arg-type]

    assert request["Instances"]["Ec2SubnetIds"] == ["subnet-0a1b2c3d"]
    assert request["Instances"]["ServiceAccessSecurityGroup"] == "sg-3"
    assert request["SecurityConfiguration"] == "fruits"
    assert request["LogEncryptionKmsKeyId"] == ENCRYPTED["log_key"]


def test_logs_are_in_the_lake_alone() -> None:
    """They may name images, and EMR's own copies of them are where nothing of ours forgets."""
    request = run_job_flow_request(Settings(), STAGED, "t", 1)
    policies = request["MonitoringConfiguration"]["S3LoggingConfiguration"]["LogTypeUploadPolicy"]

    assert request["LogUri"] == f"{Settings().lake}/logs/"
    assert set(policies) == {"system-logs", "application-logs", "persistent-ui-logs"}
    assert "emr-managed" not in policies.values()


def test_spot_workers_may_be_of_any_type_of_the_size() -> None:
    """More types, more capacity; the worst case is the dearest one's on-demand price."""
    settings = Settings(market=Market.SPOT, region="eu-west-1", worker_instance_type="c6i.2xlarge")

    assert worker_instance_types(settings) == ("c5.2xlarge", "c6i.2xlarge")
    assert cluster_roles(settings)[1].instance_type == "c5.2xlarge"


def test_every_cluster_ends_itself() -> None:
    """Idle limit, lifetime timer and no termination protection are in every request."""
    request = run_job_flow_request(Settings(cap_minutes=90, idle_minutes=5), STAGED, "t", 1)

    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 300}
    assert request["BootstrapActions"][0]["ScriptBootstrapAction"]["Args"] == ["90"]
    assert request["Instances"]["TerminationProtected"] is False


def test_every_node_gets_the_locked_environment() -> None:
    """The action knows the wheelhouse, its lock's hash and the environment of `node_python`."""
    request = run_job_flow_request(Settings(node_python="/opt/f/bin/python"), STAGED, "t", 1)

    action = request["BootstrapActions"][1]["ScriptBootstrapAction"]
    assert action["Path"] == STAGED.install_python_env
    assert action["Args"] == [STAGED.wheelhouse, "5" * 64, "/opt/f", "eu-west-3"]


def test_spot_falls_back_to_on_demand() -> None:
    """A day without Spot capacity does not lose its batch."""
    request = run_job_flow_request(Settings(market=Market.SPOT, workers=3), STAGED, "t", 1)
    primary, workers = request["Instances"]["InstanceFleets"]

    assert primary["TargetOnDemandCapacity"] == 1
    assert workers["TargetSpotCapacity"] == 3
    spot = workers["LaunchSpecifications"]["SpotSpecification"]
    assert spot["TimeoutAction"] == "SWITCH_TO_ON_DEMAND"
    assert spot["AllocationStrategy"] == "price-capacity-optimized"


@pytest.mark.parametrize("engine", list(Engine))
def test_featurize_reads_the_arguments_that_we_build(engine: Engine) -> None:
    """The job's real parser accepts the built step and finds every value in its place."""
    step = featurize_step(Settings(engine=engine, region="eu-west-1"), STAGED, ATTEMPT, "model-1")

    parsed = featurize_parser().parse_args(job_arguments(step))

    assert parsed.manifest == "s3://lake/manifests/20261121T030000-1a2b3c4d/added.parquet"
    assert (parsed.engine, parsed.region, parsed.feature_model) == (engine, "eu-west-1", "model-1")


@pytest.mark.parametrize("scaler", list(Scaler))
@pytest.mark.parametrize("k", [None, 64])
def test_pca_reads_the_arguments_that_we_build(scaler: Scaler, k: int | None) -> None:
    """The job's real parser accepts the built step, for a fixed k and for a variance target."""
    step = pca_step(Settings(k=k, scaler=scaler, variance_target=0.9), STAGED, ATTEMPT)

    parsed = pca_parser().parse_args(job_arguments(step))

    assert parsed.model_version == "20261121T030000-1a2b3c4d-1.1"
    assert (parsed.k, parsed.scaler) == (k, scaler)
    assert (parsed.statistics, parsed.refit) == ("s3://lake/statistics/", "auto")
    assert k is not None or parsed.variance_target == 0.9


def test_a_step_never_ends_the_cluster_by_itself() -> None:
    """What a failed step means is decided by who waits for it."""
    assert featurize_step(Settings(), STAGED, ATTEMPT, "m")["ActionOnFailure"] == "CONTINUE"
