"""Fixtures that every kind of test shares: the local S3, and the real images where they exist."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from fruits.staging import NETWORKS
from fruits.weights import export_network, resolve_weights
from local_cloud.clients import catalog_variables, s3_variables
from local_cloud.java import java_home
from local_cloud.s3 import ObjectStorage

SHARED = Path(__file__).resolve().parents[2] / "shared"

# What chooses tests, and what lets make run them in years to come, when the price table is old.
FOR_TESTS = {"FRUITS_TEST_COMPOSE", "FRUITS_BROWSER", "FRUITS_PRICES_MAX_AGE_DAYS"}


def pytest_configure() -> None:
    """Let Spark find a Java, the machine's or the wheel's; forget settings of make or a shell."""
    os.environ["JAVA_HOME"] = str(java_home())
    os.environ.pop("PYSPARK_SUBMIT_ARGS", None)
    for name in [one for one in os.environ if one.startswith("FRUITS_")]:
        if name not in FOR_TESTS:
            del os.environ[name]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real images and weights, or skip the test where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared with real images and weights is not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return FRUITS_CACHE_FOLDER for all tests of a run, with seeded weights that one made.

    Beside them is their network, <feature model>.onnx and .parts.tflite.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        weights = resolve_weights("MobileNetV2", "seeded", folder, lake="")
        networks = [folder / f"{weights.feature_model}{suffix}" for suffix in NETWORKS]
        if not all(network.exists() for network in networks):
            export_network(weights, *networks)
    return folder


def forget_credentials(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    """Leave boto3 no credentials, not those of the machine either; *nowhere* must not exist."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


def put_networks(cache_folder: Path, lake: Path) -> None:
    """Give the *lake* what every batch but its first finds: the network of the seeded weights."""
    (lake / "networks").mkdir()
    for suffix in NETWORKS:
        for network in cache_folder.glob(f"*{suffix}"):
            shutil.copy(network, lake / "networks")


@contextmanager
def serving(folder: Path) -> Iterator[ObjectStorage]:
    """Run an S3 with the buckets fruits-images and fruits-lake over *folder*, empty as it is.

    Clients in this process, and in those that it starts, find it and a catalog by environment.
    """
    with ObjectStorage(folder / "s3") as running, pytest.MonkeyPatch.context() as environment:
        running.make_bucket("fruits-images")
        running.make_bucket("fruits-lake")
        url = running.endpoint_url
        for name, value in (s3_variables(url) | catalog_variables(url, folder)).items():
            environment.setenv(name, value)
        yield running


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[ObjectStorage]:
    """Run an empty S3, and point this process to it."""
    with serving(tmp_path) as running:
        yield running
