"""Entry point of the featurize step: the images of a manifest become features, or say why not."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fruits_jobs.arguments import featurize_parser
from fruits_jobs.engines import LiteRtEngine, make_engine
from fruits_jobs.featurizing import Counters, FeaturizeTask
from fruits_jobs.featurizing_plan import Plan, write_features
from fruits_jobs.manifests import image_sizes
from fruits_jobs.networks import feature_model_name, read_weights, sha256_of
from fruits_jobs.objects import read_bytes, write_json
from fruits_jobs.outcome_files import SCHEMAS, Destination
from fruits_jobs.progress import Progress, say
from fruits_jobs.ranges import RowRange, rows_per_file, task_ranges
from fruits_jobs.rewriting import changed_keys, read_rewrites, rewrite_files
from fruits_jobs.sessions import run_spark_step

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession


@dataclass(frozen=True)
class Network:
    """What is broadcast: a LiteRT model's bytes or Keras weights; *length* features per image."""

    parameters: Any
    digest: str
    length: int


class OutcomesDoNotAddUp(RuntimeError):  # noqa: N818
    """Spark wrote another number of rows than the manifest has."""

    def __init__(self, manifest: str, images: int, written: int) -> None:
        super().__init__(f"{manifest} lists {images} images, but {written} outcomes were written")
        self.manifest, self.images, self.written = manifest, images, written


def main() -> None:
    """Run the step for the command line and end the process with its exit code."""
    sys.exit(run_spark_step("featurize", featurize, featurize_parser().parse_args()))


def featurize(arguments: argparse.Namespace, spark: SparkSession) -> dict[str, Any]:
    """Do the whole step and return the content of result.json, which is written last."""
    started, clock = datetime.now(UTC), time.perf_counter()
    sizes = image_sizes(arguments.manifest, arguments.region)
    network = read_network(arguments)
    ranges = task_ranges(sizes, spark.sparkContext.defaultParallelism)
    prepared = time.perf_counter() - clock
    written, busy = _run(arguments, spark, network, ranges)
    rewritten = _replace_files(arguments, spark, written, busy)
    result = {
        "step": "featurize",
        "batch": arguments.batch,
        "feature_model": arguments.feature_model,
        "engine": arguments.engine,
        "images": len(sizes),
        **{kind: _listing(kind, written) for kind in SCHEMAS},
        "rewritten": rewritten,
        "seconds": {"prepare": prepared, **busy, "total": time.perf_counter() - clock},
        "versions": _versions(arguments.engine, spark),
        "started_at": started.isoformat(),
        "ended_at": datetime.now(UTC).isoformat(),
    }
    _check(arguments.manifest, result)
    write_json(f"{arguments.work}result.json", result, arguments.region)
    say(_summary(result))
    return result


def read_network(arguments: argparse.Namespace) -> Network:
    """Read what the engine needs from S3, once; ValueError if it is not --feature-model's."""
    if arguments.engine == "litert":
        model = read_bytes(arguments.network, arguments.region)
        engine = LiteRtEngine(model)
        _check_name(arguments.feature_model, engine.feature_model, arguments.network)
        return Network(model, sha256_of(model), engine.length)
    data = read_bytes(arguments.weights, arguments.region)
    name = feature_model_name(arguments.backbone, sha256_of(data))
    _check_name(arguments.feature_model, name, arguments.weights)
    weights = read_weights(arguments.backbone, arguments.weights.rsplit("/", 1)[1], data)
    length = make_engine(arguments.backbone, weights).length
    return Network(weights, sha256_of(data), length)


def _run(
    arguments: argparse.Namespace, spark: SparkSession, network: Network, ranges: list[RowRange]
) -> tuple[list[Row], dict[str, float]]:
    if not ranges:
        return [], {}
    images = ranges[-1].stop
    counters = Counters.of(spark.sparkContext)
    task = _task(arguments, network, images)
    plan = Plan(ranges, task, _destination(arguments, network.length), counters)
    progress = f"{arguments.work}progress.json"
    clock = time.perf_counter()
    with Progress("featurize", images, lambda: counters.done.value, progress, arguments.region):
        written = write_features(spark, plan, network.parameters)
    busy = {
        "featurize": time.perf_counter() - clock,
        "inferring_core_seconds": counters.inferring.value,
        "loading_core_seconds": counters.loading.value,
    }
    return written, busy


def _replace_files(
    arguments: argparse.Namespace, spark: SparkSession, written: list[Row], busy: dict[str, float]
) -> list[dict[str, Any]]:
    """Copy the committed files that lose rows to what this step brings; note how long it took."""
    if not arguments.rewrites:
        return []
    clock = time.perf_counter()
    changed = changed_keys(written, arguments.region)
    rewrites = read_rewrites(arguments.rewrites, arguments.region, changed)
    rewritten = rewrite_files(spark, rewrites, arguments.features, arguments.region)
    busy["rewrite"] = time.perf_counter() - clock
    return rewritten


def _task(arguments: argparse.Namespace, network: Network, images: int) -> FeaturizeTask:
    return FeaturizeTask(
        manifest=arguments.manifest,
        region=arguments.region,
        backbone=arguments.backbone,
        network_id=network.digest,
        length=network.length,
        rows_per_file=rows_per_file(images, network.length),
        batch_size=arguments.batch_size,
        readers=arguments.readers,
        max_pixels=arguments.max_pixels,
    )


def _destination(arguments: argparse.Namespace, length: int) -> Destination:
    folders = {
        "features": arguments.features,
        "quarantine": arguments.quarantine,
        "changed": arguments.work,
    }
    return Destination(folders, arguments.feature_model, arguments.batch, arguments.region, length)


def _listing(kind: str, written: Iterable[Row]) -> dict[str, Any]:
    files = sorted((row for row in written if row.kind == kind), key=lambda row: row.uri)
    listing: dict[str, Any] = {
        "rows": sum(row.rows for row in files),
        "files": [{"uri": row.uri, "rows": row.rows, "bytes": row.bytes} for row in files],
    }
    if kind == "quarantine":
        listing["reasons"] = dict(sum((Counter(json.loads(r.reasons)) for r in files), Counter()))
    return listing


def _check(manifest: str, result: dict[str, Any]) -> None:
    written = sum(result[kind]["rows"] for kind in SCHEMAS)
    if written != result["images"]:
        raise OutcomesDoNotAddUp(manifest, result["images"], written)


def _check_name(expected: str, found: str | None, uri: str) -> None:
    if found != expected:
        raise ValueError(f"{uri} makes features of {found}, not of {expected}")


def _versions(engine: str, spark: SparkSession) -> dict[str, str]:
    packages = ["pillow", "numpy", "pyarrow", "obstore"]
    packages += ["ai-edge-litert"] if engine == "litert" else ["keras"]
    # EMR's pyspark is a zip that no installer knows.
    known = {"python": sys.version.split()[0], "pyspark": spark.version}
    return known | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # no reason to lose the work of the step
        return "unknown"


def _summary(result: dict[str, Any]) -> str:
    rate = result["images"] / max(result["seconds"]["total"], 1e-9)
    return (
        f"featurize: {result['features']['rows']:,} features,"
        f" {result['quarantine']['rows']:,} quarantined, {result['changed']['rows']:,} changed"
        f" in {result['seconds']['total']:.1f} s ({rate:.1f} images/s)"
    )


if __name__ == "__main__":
    main()
