"""Fixtures that every kind of test shares: the local S3, and the real images where they exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cloud.java import java_home
from local_cloud.s3 import ACCESS_KEY, SECRET_KEY, ObjectStorage

SHARED = Path(__file__).resolve().parents[2] / "shared"


# What chooses tests, and what lets make run them in years to come, when the price table is old.
FOR_TESTS = {"FRUITS_TEST_COMPOSE", "FRUITS_BROWSER", "FRUITS_PRICES_MAX_AGE_DAYS"}


def pytest_configure() -> None:
    """Let Spark find a Java, the machine's or the wheel's; forget settings of make or a shell."""
    os.environ["JAVA_HOME"] = str(java_home())
    for name in [one for one in os.environ if one.startswith("FRUITS_")]:
        if name not in FOR_TESTS:
            del os.environ[name]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real images and weights, or skip the test where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared with real images and weights is not on this machine")
    return SHARED


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """Run an empty S3 with the buckets fruits-images and fruits-lake; clients find it by env."""
    with ObjectStorage(tmp_path / "s3") as running:
        running.make_bucket("fruits-images")
        running.make_bucket("fruits-lake")
        for name, value in s3_environment(running.endpoint_url, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield running


def s3_environment(endpoint_url: str, folder: Path) -> dict[str, str]:
    """Return the environment in which S3 clients and PyIceberg use *endpoint_url*."""
    catalog = "PYICEBERG_CATALOG__FRUITS__"
    return {
        "AWS_ENDPOINT_URL_S3": endpoint_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_REGION": "eu-west-3",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        f"{catalog}TYPE": "sql",
        f"{catalog}URI": f"sqlite:///{folder}/catalog.db",
        f"{catalog}WAREHOUSE": "s3://fruits-lake/tables",
        f"{catalog}S3__ENDPOINT": endpoint_url,
        f"{catalog}S3__ACCESS_KEY_ID": ACCESS_KEY,
        f"{catalog}S3__SECRET_ACCESS_KEY": SECRET_KEY,
        f"{catalog}S3__REGION": "eu-west-3",
    }
