"""The two EMR steps as requests: settings in, dict out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fruits.weights import backbone_of

if TYPE_CHECKING:
    from fruits.batches import Attempt
    from fruits.settings import Settings


@dataclass(frozen=True)
class StagedJobs:
    """URIs of what a cluster runs; each name holds a hash of what it is of, and never changes."""

    featurize: str
    pca: str
    package: str
    weights: str
    network: str
    limit_lifetime: str
    install_python_env: str
    wheelhouse: str


def featurize_step(
    settings: Settings,
    staged: StagedJobs,
    attempt: Attempt,
    feature_model: str,
    rewrites: str | None = None,
) -> dict[str, Any]:
    """Return the StepConfig that turns the batch's added images into features or quarantine.

    *rewrites* is the URI of the list of rows that committed files are to lose, if there is one.
    """
    arguments = {
        "--manifest": f"{attempt.batch.manifest}/added.parquet",
        "--features": f"{attempt.data('features')}/",
        "--quarantine": f"{attempt.data('quarantine')}/",
        "--work": f"{attempt.work('featurize')}/",
        "--weights": staged.weights,
        "--network": staged.network,
        "--backbone": backbone_of(feature_model),
        "--engine": settings.engine.value,
        "--feature-model": feature_model,
        "--batch": attempt.batch.id,
        "--region": settings.region,
        **({"--rewrites": rewrites} if rewrites else {}),
    }
    return _spark_step("featurize", staged.featurize, staged.package, attempt, arguments)


def pca_step(settings: Settings, staged: StagedJobs, attempt: Attempt) -> dict[str, Any]:
    """Return the StepConfig that fits PCA where it is needed and projects what it has to."""
    chosen = (
        {"--k": str(settings.k)}
        if settings.k
        else {"--variance-target": str(settings.variance_target)}
    )
    arguments = {
        "--features": f"{attempt.work('pca')}/features.json",
        "--components": f"{attempt.data('components')}/",
        "--model": f"{attempt.model}/",
        "--model-version": attempt.model_version,
        "--work": f"{attempt.work('pca')}/",
        "--statistics": f"{attempt.batch.statistics}/",
        "--refit": settings.refit.value,
        **chosen,
        "--max-components": str(settings.max_components),
        "--scaler": settings.scaler.value,
        "--batch": attempt.batch.id,
        "--region": settings.region,
    }
    return _spark_step("pca", staged.pca, staged.package, attempt, arguments)


def _spark_step(
    name: str, entry_point: str, package: str, attempt: Attempt, arguments: dict[str, str]
) -> dict[str, Any]:
    submit = ["spark-submit", "--deploy-mode", "client", "--py-files", package, entry_point]
    return {
        "Name": f"{name} {attempt.batch.id} {attempt.name}",
        # The caller decides what a failed step means; the cluster must not guess.
        "ActionOnFailure": "CONTINUE",
        "HadoopJarStep": {
            "Jar": "command-runner.jar",
            "Args": [*submit, *(word for pair in arguments.items() for word in pair)],
        },
    }
