"""Entry point of the pca step: an exact PCA of all features, and components of what has none."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fruits_jobs.arguments import pca_parser
from fruits_jobs.bases import Basis, Wish
from fruits_jobs.data_files import identified
from fruits_jobs.objects import write_json
from fruits_jobs.pca_models import UnreadableModel, read_model, write_model
from fruits_jobs.pca_reports import Stopwatch, describe, how_it_went, result_of, tell
from fruits_jobs.pca_sources import Source, read_missing, read_source
from fruits_jobs.plots import write_plots
from fruits_jobs.progress import Progress
from fruits_jobs.projecting import SAMPLE, ComponentsDestination, Projected, write_components
from fruits_jobs.qualities import quality
from fruits_jobs.ranges import rows_per_file
from fruits_jobs.refits import Decision, decide
from fruits_jobs.sessions import cause, run_spark_step
from fruits_jobs.shares import SMALLEST_SHARE, file_parts, matrix_of
from fruits_jobs.statistics import Statistics
from fruits_jobs.statistics_cache import StatisticsCache, Sum, cached_statistics

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession


def main() -> None:
    """Run the step for the command line and end the process with its exit code."""
    sys.exit(run_spark_step("pca", pca, pca_parser().parse_args()))


def pca(arguments: argparse.Namespace, spark: SparkSession) -> dict[str, Any]:
    """Do the whole step and return the content of result.json, which is written last."""
    seconds = Stopwatch()
    source = read_source(arguments.features, arguments.region)
    done = spark.sparkContext.accumulator(0)
    progress = f"{arguments.work}progress.json"

    def through() -> int:
        return int(done.value) // 2  # every image is looked at twice: for the sums, and to project

    with Progress("pca", source.rows, through, progress, arguments.region):
        found = seconds.of("statistics", lambda: _statistics(arguments, spark, source, done))
        decision = seconds.of("fit", lambda: _decision(arguments, source, found.statistics))
        projected = seconds.of(
            "components", lambda: _components(arguments, spark, source, decision, done)
        )
    if decision.kept:
        model = decision.kept.description
    else:
        model = describe(arguments, source, found, decision)
        model = _new_model(
            arguments, spark, decision, model, sample=projected.sample, seconds=seconds
        )
    result = result_of(arguments.batch, source, decision, model, projected)
    result |= how_it_went(found, seconds)
    write_json(f"{arguments.work}result.json", result, arguments.region)
    tell(result, source, found)
    return result


def _statistics(
    arguments: argparse.Namespace, spark: SparkSession, source: Source, done: Any
) -> Sum:
    files = identified(source.files, arguments.region)
    folder = f"{arguments.statistics}{source.feature_model}/"
    cache = StatisticsCache.open(folder, arguments.region)
    return cached_statistics(spark.sparkContext, files, cache, done)


def _decision(arguments: argparse.Namespace, source: Source, statistics: Statistics) -> Decision:
    wish = Wish(arguments.k, arguments.variance_target, arguments.max_components)
    try:
        current = read_model(source.current.model, arguments.region) if source.current else None
    except UnreadableModel as error:
        # Nothing can be projected with it, whatever the policy.
        decision = decide(arguments.refit, None, statistics, wish, arguments.scaler)
        warnings = (*decision.warnings, f"{error}: a new version was fitted")
        return replace(decision, reason="the version cannot be read", warnings=warnings)
    return decide(arguments.refit, current, statistics, wish, arguments.scaler)


def _components(
    arguments: argparse.Namespace,
    spark: SparkSession,
    source: Source,
    decision: Decision,
    done: Any,
) -> Projected:
    cores = spark.sparkContext.defaultParallelism
    k = decision.basis.k
    rows = min(rows_per_file(source.rows, k), max(SMALLEST_SHARE, source.rows // cores))
    version, images, sampled = arguments.model_version, None, min(1.0, SAMPLE / source.rows)
    if decision.kept and source.current:
        version, sampled = decision.kept.version, 0.0
        images = read_missing(source.current, arguments.region)
    destination = ComponentsDestination(
        arguments.components, version, arguments.batch, arguments.region
    )
    shares, context = file_parts(source.files, rows), spark.sparkContext
    return write_components(
        context, shares, decision.basis, destination, done, images=images, sampled=sampled
    )


def _new_model(
    arguments: argparse.Namespace,
    spark: SparkSession,
    decision: Decision,
    description: dict[str, Any],
    *,
    sample: pa.Table,
    seconds: Stopwatch,
) -> dict[str, Any]:
    """Write the new version with its figures and plots; return the content of model.json."""
    basis, folder, region = decision.basis, arguments.model, arguments.region
    figures = seconds.of("quality", lambda: quality(sample, basis))
    plots, warnings = seconds.of("plots", lambda: _plots(arguments, basis, sample))
    description |= {"quality": figures, "plots": plots}
    description["warnings"] += warnings
    return seconds.of("model", lambda: write_model(spark, basis, description, folder, region))


def _plots(
    arguments: argparse.Namespace, basis: Basis, sample: pa.Table
) -> tuple[list[str], list[str]]:
    """Draw what there is to see; return the files' names, and warnings."""
    labels, components = sample["label"].to_pylist(), basis.components(matrix_of(sample))
    folder, region = arguments.model, arguments.region
    try:
        names = write_plots(
            basis, arguments.variance_target, labels, components, folder=folder, region=region
        )
    except Exception as error:  # noqa: BLE001  (no picture is worth a day's components)
        return [], [f"there are no plots: {cause(error)}"]
    return names, []


if __name__ == "__main__":
    main()
