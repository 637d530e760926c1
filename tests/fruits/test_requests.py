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
from fruits.clusters import CAP_TAG, GENERATION_TAG, TOKEN_TAG, cluster_name, run_job_flow_request
from fruits.settings import Engine, Market, Scaler, Settings
from fruits.steps import StagedJobs, featurize_step, pca_step
from fruits_jobs.arguments import featurize_parser, pca_parser

STAGED = StagedJobs(
    featurize="s3://lake/jobs/1/featurize.py",
    pca="s3://lake/jobs/1/pca.py",
    package="s3://lake/jobs/1/fruits_jobs.zip",
    weights="s3://lake/weights/2/weights.h5",
    network="s3://lake/networks/model.onnx",
    limit_lifetime="s3://lake/bootstrap/3/limit_lifetime.sh",
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


GRID = {
    "market": list(Market),
    "subnet_id": [None, "subnet-0a1b2c3d"],
    "workers": [1, 50],
    "worker_instance_type": ["m5.xlarge", "r6i.4xlarge"],
    "cap_minutes": [2, 1440],
    "idle_minutes": [1, 120],
    "engine": list(Engine),
    "scaler": list(Scaler),
    "k": [None, 64],
}


def settings_of_the_grid() -> Iterator[Settings]:
    """Yield settings of every combination that is none of a contradiction."""
    for values in itertools.product(*GRID.values()):
        chosen = dict(zip(GRID, values, strict=True))
        if chosen["idle_minutes"] < chosen["cap_minutes"]:
            yield Settings(**chosen)


def test_every_request_fits_the_service_model() -> None:
    """Whatever is set, what we send has no unknown, missing or mistyped parameter."""
    checked = 0
    for settings in settings_of_the_grid():
        steps = [
            featurize_step(settings, STAGED, ATTEMPT, "m"),
            pca_step(settings, STAGED, ATTEMPT),
        ]
        request = run_job_flow_request(settings, STAGED, "token", "batch", 1)
        assert validate("RunJobFlow", request) == ""
        assert validate("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": steps}) == ""
        checked += 1

    assert checked > 500


def test_the_cluster_says_whose_it_is() -> None:
    """Who knows no run and no settings finds token, generation and cap on the cluster."""
    request = run_job_flow_request(Settings(cap_minutes=90), STAGED, "token", "batch", 3)
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}

    assert request["Name"] == cluster_name("token")
    assert (tags[TOKEN_TAG], tags[GENERATION_TAG], tags[CAP_TAG]) == ("token", "3", "90")


def test_every_cluster_ends_itself() -> None:
    """Idle limit, lifetime timer and no termination protection are in every request."""
    request = run_job_flow_request(Settings(cap_minutes=90, idle_minutes=5), STAGED, "t", "b", 1)

    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 300}
    assert request["BootstrapActions"][0]["ScriptBootstrapAction"]["Args"] == ["90"]
    assert request["Instances"]["TerminationProtected"] is False


def test_spot_falls_back_to_on_demand() -> None:
    """A day without Spot capacity does not lose its batch."""
    request = run_job_flow_request(Settings(market=Market.SPOT, workers=3), STAGED, "t", "b", 1)
    primary, workers = request["Instances"]["InstanceFleets"]

    assert primary["TargetOnDemandCapacity"] == 1
    assert workers["TargetSpotCapacity"] == 3
    spot = workers["LaunchSpecifications"]["SpotSpecification"]
    assert spot["TimeoutAction"] == "SWITCH_TO_ON_DEMAND"


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
