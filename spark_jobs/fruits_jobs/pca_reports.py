"""What the pca step says about its work: model.json, result.json, and lines for its log."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

from fruits_jobs.pca_models import spark_offset
from fruits_jobs.pca_sources import Source
from fruits_jobs.progress import say
from fruits_jobs.projecting import Projected
from fruits_jobs.refits import Decision
from fruits_jobs.statistics_cache import Sum

T = TypeVar("T")


class Stopwatch:
    """When a step started, and in *spent* the seconds that named parts of it took."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC)
        self.spent: dict[str, float] = {}

    def of(self, name: str, work: Callable[[], T]) -> T:
        """Return what *work* returns and remember how long it took."""
        started = time.perf_counter()
        try:
            return work()
        finally:
            self.spent[name] = round(time.perf_counter() - started, 3)


def describe(
    arguments: argparse.Namespace, source: Source, found: Sum, decision: Decision
) -> dict[str, Any]:
    """Return what model.json says about a new version, but for its figures and plots."""
    basis = decision.basis
    ratio = basis.explained_variance_ratio
    return {
        "model_version": arguments.model_version,
        "n_images": found.statistics.count,
        "n_features": found.statistics.width,
        "k": basis.k,
        "variance_target": arguments.variance_target,
        "variance_target_met": basis.variance_target_met,
        "explained_variance_ratio": ratio.tolist(),
        "explained_variance_kept": float(ratio.sum()),
        "feature_model": source.feature_model,
        "features_snapshot_id": source.snapshot_id,
        "scaler": arguments.scaler,
        "reason": decision.reason,
        "spark_offset": spark_offset(basis).tolist(),
        "created_at": datetime.now(UTC).isoformat(),
        "warnings": list(decision.warnings),
    }


def result_of(
    batch: str, source: Source, decision: Decision, model: dict[str, Any], projected: Projected
) -> dict[str, Any]:
    """Return what a commit has to know: the version, what was read, and the files."""
    read_upon = source.current.components_snapshot_id if source.current and decision.kept else None
    # A new version's warnings are its own; those of a kept one are of other days.
    warnings = decision.warnings if decision.kept else model["warnings"]
    return {
        "step": "pca",
        "batch": batch,
        "model_version": model["model_version"],
        "fitted": decision.fitted,
        "reason": decision.reason,
        "explained_variance_kept": decision.captured,
        "features_snapshot_id": source.snapshot_id,
        "components_snapshot_id": read_upon,
        "model": model,
        "components": {
            "rows": sum(file.rows for file in projected.files),
            "files": [asdict(file) for file in projected.files],
        },
        "warnings": list(warnings),
    }


def how_it_went(found: Sum, seconds: Stopwatch) -> dict[str, Any]:
    """Return where the statistics came from, and what took how long."""
    return {
        "statistics": {
            "rows_loaded": found.loaded,
            "rows_computed": found.computed,
            "rejected": list(found.rejected),
        },
        "seconds": seconds.spent,
        "started_at": seconds.started.isoformat(),
        "ended_at": datetime.now(UTC).isoformat(),
    }


def tell(result: dict[str, Any], source: Source, found: Sum) -> None:
    """Say in the log what was done, and first what was not as it should be."""
    for rejected in found.rejected:
        say(f"pca: WARNING: the cached statistics of {rejected}; they were computed again")
    for warning in result["warnings"]:
        say(f"pca: WARNING: {warning}")
    done = "fitted" if result["fitted"] else "kept"
    kept = result["explained_variance_kept"]
    share = f" keep {kept:.2%} of the variance" if kept is not None else ""
    say(f"pca: statistics of {found.computed:,} of {source.rows:,} images were computed")
    say(f"pca: {done} version {result['model_version']}: {result['reason']}")
    say(
        f"pca: {result['model']['k']} components of {source.rows:,} images{share};"
        f" {result['components']['rows']:,} images were projected"
    )
