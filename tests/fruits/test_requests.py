"""Requests to EMR: AWS's own model accepts them, and the jobs' own parsers read their arguments."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from fruits.batches import Batch
from fruits.clusters import cluster_roles, run_job_flow_request, worker_instance_types
from fruits.settings import EU_REGIONS, Engine, Market, Scaler, Settings
from fruits.steps import StagedJobs, featurize_step, pca_step
from fruits_jobs.arguments import featurize_parser, pca_parser
from local_cloud.emr.supported import unsupported

STAGED = StagedJobs(
    featurize="s3://lake/jobs/1/featurize.py",
    pca="s3://lake/jobs/1/pca.py",
    package="s3://lake/jobs/1/fruits_jobs.zip",
    weights="s3://lake/weights/2/weights.h5",
    network="s3://lake/networks/model.onnx",
    limit_lifetime="s3://lake/bootstrap/3/limit_lifetime.sh",
    install_python_env="s3://lake/bootstrap/4/install_python_env.sh",
    wheelhouse=f"s3://lake/wheelhouses/{'5' * 64}",
)
ATTEMPT = Batch("s3://lake", "20261121T030000-1a2b3c4d").attempt("1")


def validate(operation: str, parameters: dict[str, Any]) -> str:
    """Return what botocore's service model has against *parameters*, or an empty string."""
    model = botocore.session.get_session().get_service_model("emr").operation_model(operation)
    report = ParamValidator().validate(parameters, model.input_shape)
    return str(report.generate_report())


def job_arguments(step: dict[str, Any]) -> list[str]:
    """Return what the entry point of *step* is called with."""
    words: list[str] = step["HadoopJarStep"]["Args"]
    return words[next(i for i, word in enumerate(words) if word.endswith(".py")) + 1 :]


PRIVATE = {
    "subnet_id": "subnet-0a1b2c3d",
    "primary_security_group": "sg-1",
    "worker_security_group": "sg-2",
    "service_security_group": "sg-3",
}
ENCRYPTED = {
    "security_configuration": "fruits",
    "log_key": "arn:aws:kms:eu-west-3:123456789012:key/0a1b",
}
NETWORKS: list[dict[str, str]] = [{}, {"subnet_id": "subnet-0a1b2c3d"}, PRIVATE]


@pytest.mark.parametrize("market", list(Market))
@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("region", [region for region in EU_REGIONS if region != "eu-south-2"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("encryption", [{}, ENCRYPTED])
def test_the_cluster_request_fits_the_service_model(
    market: Market,
    engine: Engine,
    region: str,
    network: dict[str, str],
    encryption: dict[str, str],
) -> None:
    """What we send has no unknown, missing or mistyped parameter, however it is configured."""
    chosen = {**network, **encryption, "region": region, "engine": engine, "market": market}
    settings = Settings(**chosen, worker_instance_type="m6i.2xlarge")  # type: ignore[arg-type]

    assert validate("RunJobFlow", run_job_flow_request(settings, STAGED, "token", "batch")) == ""


def test_the_local_emr_knows_all_that_we_send() -> None:
    """It refuses what it does not model: nothing may only work on AWS."""
    settings = Settings(**PRIVATE, **ENCRYPTED, market=Market.SPOT)  # type: ignore[arg-type]

    assert unsupported("RunJobFlow", run_job_flow_request(settings, STAGED, "t", "b")) == []


def test_a_cluster_is_private_and_encrypted_as_configured() -> None:
    """Subnet, groups, security configuration and the logs' key reach the request."""
    request = run_job_flow_request(Settings(**PRIVATE, **ENCRYPTED), STAGED, "t", "b")  # type: ignore[arg-type]

    assert request["Instances"]["Ec2SubnetIds"] == ["subnet-0a1b2c3d"]
    assert request["Instances"]["ServiceAccessSecurityGroup"] == "sg-3"
    assert request["SecurityConfiguration"] == "fruits"
    assert request["LogEncryptionKmsKeyId"] == ENCRYPTED["log_key"]


def test_spot_workers_may_be_of_any_type_of_the_size() -> None:
    """More types, more capacity; the worst case is the dearest one's on-demand price."""
    settings = Settings(market=Market.SPOT, region="eu-west-1", worker_instance_type="c6i.2xlarge")

    assert worker_instance_types(settings) == ("c5.2xlarge", "c6i.2xlarge")
    assert cluster_roles(settings)[1].instance_type == "c5.2xlarge"


def test_every_cluster_ends_itself() -> None:
    """Idle limit, lifetime timer and no termination protection are in every request."""
    request = run_job_flow_request(Settings(cap_minutes=90, idle_minutes=5), STAGED, "t", "b")

    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 300}
    assert request["BootstrapActions"][0]["ScriptBootstrapAction"]["Args"] == ["90"]
    assert request["Instances"]["TerminationProtected"] is False


def test_every_node_gets_the_locked_environment() -> None:
    """The action knows the wheelhouse, its lock's hash and the environment of `node_python`."""
    request = run_job_flow_request(Settings(node_python="/opt/f/bin/python"), STAGED, "t", "b")

    action = request["BootstrapActions"][1]["ScriptBootstrapAction"]
    assert action["Path"] == STAGED.install_python_env
    assert action["Args"] == [STAGED.wheelhouse, "5" * 64, "/opt/f"]


def test_spot_falls_back_to_on_demand() -> None:
    """A day without Spot capacity does not lose its batch."""
    request = run_job_flow_request(Settings(market=Market.SPOT, workers=3), STAGED, "t", "b")
    primary, workers = request["Instances"]["InstanceFleets"]

    assert primary["TargetOnDemandCapacity"] == 1
    assert workers["TargetSpotCapacity"] == 3
    spot = workers["LaunchSpecifications"]["SpotSpecification"]
    assert spot["TimeoutAction"] == "SWITCH_TO_ON_DEMAND"
    assert spot["AllocationStrategy"] == "price-capacity-optimized"


def test_both_steps_fit_the_service_model() -> None:
    """AddJobFlowSteps takes what we build."""
    steps = [
        featurize_step(Settings(), STAGED, ATTEMPT, "model"),
        pca_step(Settings(), STAGED, ATTEMPT),
    ]

    assert validate("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": steps}) == ""


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

    assert parsed.model_version == "20261121T030000-1a2b3c4d-1"
    assert (parsed.k, parsed.scaler) == (k, scaler)
    assert k is not None or parsed.variance_target == 0.9


def test_a_step_never_ends_the_cluster_by_itself() -> None:
    """What a failed step means is decided by who waits for it."""
    assert featurize_step(Settings(), STAGED, ATTEMPT, "m")["ActionOnFailure"] == "CONTINUE"
