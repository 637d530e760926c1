"""Fixtures that every kind of test shares: the local S3, and the real images where they exist."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from fruits.staging import NETWORKS
from fruits.weights import export_network, resolve_weights
from local_cloud.addresses import LOOPBACK
from local_cloud.clients import catalog_variables, s3_variables
from local_cloud.java import java_home
from local_cloud.proxies import no_proxy_variables
from local_cloud.s3 import ObjectStorage

# A property that is slow on a busy machine is not false. It takes the profile that is set when its
# module is imported, and this file comes before all of them.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

SHARED = Path(__file__).resolve().parents[2] / "shared"

# By what programs find a cloud and an Airflow, in `make shell` for instance: a test has its own.
OF_A_SHELL = ("FRUITS_", "AIRFLOW_", "AWS_", "PYICEBERG_")
# What chooses tests, what lets make run them in years to come, when the price table is old, and
# whom a machine trusts whose network has a certificate of its own.
FOR_TESTS = {
    "FRUITS_TEST_COMPOSE",
    "FRUITS_BROWSER",
    "FRUITS_PRICES_MAX_AGE_DAYS",
    "AWS_CA_BUNDLE",
}


def pytest_configure() -> None:
    """Let Spark find a Java, the machine's or the wheel's; forget settings of make or a shell.

    What is asked of this machine goes by no proxy: all servers of tests are here.
    """
    os.environ["JAVA_HOME"] = str(java_home())
    os.environ.pop("PYSPARK_SUBMIT_ARGS", None)
    for name in [one for one in os.environ if one.startswith(OF_A_SHELL)]:
        if name not in FOR_TESTS:
            del os.environ[name]
    os.environ |= no_proxy_variables([LOOPBACK, "localhost"])


LAB = "tests/chaos"


class OneLab(LoadFileScheduling):
    """Gives each file to one worker, but those of tests/chaos as one: their lab takes minutes."""

    def _split_scope(self, nodeid: str) -> str:
        return _file(nodeid)


def _file(nodeid: str) -> str:
    """Return the test's file, or LAB if it needs that."""
    file = nodeid.partition("::")[0]
    needs_lab = file.startswith(f"{LAB}/") and file != f"{LAB}/test_faults.py"
    return LAB if needs_lab else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneLab | None:
    """Distribute by OneLab what --dist loadfile would; --dist loadscope gives each worker a lab."""
    return OneLab(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the lab, which takes longest, and end with many short files, for all workers.

    Not with other long ones: whole batches would begin beside the lab's first, and two cores are
    too few for that.
    """
    last = ("tests/fruits/", "tests/benchmarks/")
    items.sort(key=lambda item: (_file(item.nodeid) != LAB, item.nodeid.startswith(last)))


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
