"""Fixtures of the jobs' tests: one Spark, one seeded network, and batches in a local S3."""

from __future__ import annotations

import os
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from fruits.staging import NETWORKS
from fruits.weights import resolve_weights
from fruits_jobs import fetching, objects
from fruits_jobs.sessions import configuration
from local_cloud.java import BRIEF_JVM
from local_cloud.s3 import ObjectStorage
from tests.spark_jobs.batches import Batch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def job_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package as a zip, as --py-files gets it."""
    path = tmp_path_factory.mktemp("jobs") / "fruits_jobs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for module in sorted((ROOT / "spark_jobs" / "fruits_jobs").glob("*.py")):
            archive.write(module, f"fruits_jobs/{module.name}")
    return path


@pytest.fixture(scope="session")
def network(cache_folder: Path) -> Namespace:
    """Return weights, feature_model, network and onnx (paths) of a seeded MobileNetV2.

    All tests of a run share them: nobody may change these files.
    """
    weights = resolve_weights("MobileNetV2", "seeded", cache_folder, lake="")
    onnx, network = (cache_folder / f"{weights.feature_model}{suffix}" for suffix in NETWORKS)
    return Namespace(
        weights=Path(weights.path),
        feature_model=weights.feature_model,
        network=network,
        onnx=onnx,
    )


@pytest.fixture(scope="session")
def spark_application(job_zip: Path) -> Iterator[SparkSession]:
    """Run Spark on two cores with task retries, its workers importing the jobs from the zip."""
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_SUBMIT_OPTS": BRIEF_JVM}
    viewfs = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
    builder = SparkSession.Builder().master("local[2,4]").config("spark.ui.enabled", "false")
    for key, value in configuration("local").items():
        builder = builder.config(key, value)
    builder = builder.config("spark.hadoop.fs.s3.impl", viewfs).config(
        "spark.hadoop.fs.viewfs.overload.scheme.target.s3.impl",
        "org.apache.hadoop.fs.RawLocalFileSystem",
    )
    # Each test has its own folder behind s3://, so Hadoop must not keep the last one's.
    session = builder.config("spark.hadoop.fs.s3.impl.disable.cache", "true").getOrCreate()
    session.sparkContext.addPyFile(str(job_zip))
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def fresh_clients() -> None:
    """Forget the clients of the last test's S3, which listened on another port."""
    for cached in (objects.bucket_store, objects.filesystem, fetching._boto3_client):
        cached.cache_clear()


@pytest.fixture
def spark(spark_application: SparkSession, storage: ObjectStorage) -> SparkSession:
    """Return Spark whose workers and file systems see this test's S3."""
    context = spark_application.sparkContext
    context.environment.update({k: v for k, v in os.environ.items() if k.startswith("AWS_")})
    hadoop = context._jsc.hadoopConfiguration()
    for bucket in ("fruits-images", "fruits-lake"):
        target = f"file://{storage.folder}/{bucket}"
        hadoop.set(f"fs.viewfs.mounttable.{bucket}.linkFallback", target)
    return spark_application


@pytest.fixture
def make_batch(storage: ObjectStorage, network: Namespace) -> Callable[[dict[str, bytes]], Batch]:
    """Return a function that puts images (key -> bytes) into S3 with a manifest of them."""
    return lambda images: Batch.make(storage.folder, network, images)
