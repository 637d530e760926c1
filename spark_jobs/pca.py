"""Entry point of the pca step: an exact PCA of all features, and every image's components."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from fruits_jobs.arguments import pca_parser
from fruits_jobs.bases import Basis, CannotFit, Wish, fit
from fruits_jobs.objects import read_json, write_json
from fruits_jobs.pca_models import spark_offset, write_model
from fruits_jobs.progress import Progress, say
from fruits_jobs.projecting import ComponentsDestination, sum_statistics, write_components
from fruits_jobs.ranges import rows_per_file
from fruits_jobs.sessions import run_step, spark_session
from fruits_jobs.shares import file_parts
from fruits_jobs.statistics import Statistics

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from fruits_jobs.table_files import WrittenFile

T = TypeVar("T")

SMALLEST_SHARE = 8192  # rows: below this, a Spark task costs more than it gains
SHARES_PER_CORE = 4


class RowsDiffer(RuntimeError):  # noqa: N818
    """The *files* hold another number of rows than features.json says."""

    def __init__(self, features: str, expected: int, found: int) -> None:
        super().__init__(f"{features} lists {expected} rows, but its files have {found}")
        self.features, self.expected, self.found = features, expected, found


@dataclass(frozen=True)
class Source:
    """The committed features: *files* as (uri, rows), and what they are a snapshot of."""

    files: list[tuple[str, int]]
    feature_model: str
    snapshot_id: int

    @property
    def rows(self) -> int:
        """The number of images."""
        return sum(rows for _, rows in self.files)


def main() -> None:
    """Run the step for the command line and end the process with its exit code."""
    arguments = pca_parser().parse_args()
    work, region = arguments.work, arguments.region
    sys.exit(run_step("pca", lambda: _with_spark(arguments), work, region))


def _with_spark(arguments: argparse.Namespace) -> None:
    spark = spark_session(f"pca {arguments.batch}")
    try:
        pca(arguments, spark)
    finally:
        spark.stop()


def pca(arguments: argparse.Namespace, spark: SparkSession) -> dict[str, Any]:
    """Do the whole step and return the content of result.json, which is written last."""
    started, seconds = datetime.now(UTC), Stopwatch()
    source = read_source(arguments.features, arguments.region)
    done = spark.sparkContext.accumulator(0)
    progress = f"{arguments.work}progress.json"

    def through() -> int:
        return int(done.value) // 2  # every image is read twice: for statistics and components

    with Progress("pca", source.rows, through, progress, arguments.region):
        statistics = seconds.of("statistics", lambda: _statistics(arguments, spark, source, done))
        wish = Wish(arguments.k, arguments.variance_target, arguments.max_components)
        basis = seconds.of("fit", lambda: fit(statistics, wish, arguments.scaler))
        files = seconds.of("components", lambda: _components(arguments, spark, source, basis, done))
    model = describe(arguments, source, statistics, basis)
    seconds.of("model", lambda: write_model(spark, basis, model, arguments.model, arguments.region))
    result = {
        "step": "pca",
        "batch": arguments.batch,
        "model_version": arguments.model_version,
        "model": model,
        "components": _listing(files),
        "warnings": list(basis.warnings),
        "seconds": seconds.spent,
        "started_at": started.isoformat(),
        "ended_at": datetime.now(UTC).isoformat(),
    }
    write_json(f"{arguments.work}result.json", result, arguments.region)
    _tell(basis, source)
    return result


class Stopwatch:
    """Seconds that named parts of a step took, in *spent*."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def of(self, name: str, work: Callable[[], T]) -> T:
        """Return what *work* returns and remember how long it took."""
        started = time.perf_counter()
        try:
            return work()
        finally:
            self.spent[name] = round(time.perf_counter() - started, 3)


def read_source(uri: str, region: str) -> Source:
    """Read features.json; CannotFit if it lists no rows."""
    content = read_json(uri, region)
    files = [(file["uri"], file["rows"]) for file in content["files"] if file["rows"]]
    if not files:
        raise CannotFit(f"{uri} lists no features: a PCA needs at least 2 images")
    return Source(files, content["feature_model"], content["snapshot_id"])


def describe(
    arguments: argparse.Namespace, source: Source, statistics: Statistics, basis: Basis
) -> dict[str, Any]:
    """Return the content of model.json."""
    ratio = basis.explained_variance_ratio
    return {
        "model_version": arguments.model_version,
        "n_images": statistics.count,
        "n_features": len(statistics.total),
        "k": basis.k,
        "variance_target": arguments.variance_target,
        "variance_target_met": basis.variance_target_met,
        "explained_variance_ratio": ratio.tolist(),
        "explained_variance_kept": float(ratio.sum()),
        "feature_model": source.feature_model,
        "features_snapshot_id": source.snapshot_id,
        "scaler": arguments.scaler,
        "spark_offset": spark_offset(basis).tolist(),
        "created_at": datetime.now(UTC).isoformat(),
        "warnings": list(basis.warnings),
    }


def _statistics(
    arguments: argparse.Namespace,
    spark: SparkSession,
    source: Source,
    done: Any,
) -> Statistics:
    cores = spark.sparkContext.defaultParallelism
    rows = max(SMALLEST_SHARE, -(-source.rows // (SHARES_PER_CORE * cores)))
    shares = file_parts(source.files, rows)
    statistics = sum_statistics(spark.sparkContext, shares, arguments.region, done)
    if statistics.count != source.rows:
        raise RowsDiffer(arguments.features, source.rows, statistics.count)
    return statistics


def _components(
    arguments: argparse.Namespace,
    spark: SparkSession,
    source: Source,
    basis: Basis,
    done: Any,
) -> list[WrittenFile]:
    cores = spark.sparkContext.defaultParallelism
    rows = min(rows_per_file(source.rows, basis.k), max(SMALLEST_SHARE, source.rows // cores))
    destination = ComponentsDestination(
        arguments.components, arguments.model_version, arguments.batch, arguments.region
    )
    shares = file_parts(source.files, rows)
    return write_components(spark.sparkContext, shares, basis, destination, done)


def _listing(files: list[WrittenFile]) -> dict[str, Any]:
    return {"rows": sum(file.rows for file in files), "files": [asdict(file) for file in files]}


def _tell(basis: Basis, source: Source) -> None:
    for warning in basis.warnings:
        say(f"pca: WARNING: {warning}")
    kept = basis.explained_variance_ratio.sum()
    say(f"pca: {basis.k} components of {source.rows:,} images keep {kept:.2%} of the variance")


if __name__ == "__main__":
    main()
