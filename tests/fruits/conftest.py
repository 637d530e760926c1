"""Fixtures of the library's tests: tables in an S3 of their own, and a cloud of S3 and EMR."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from fruits.lifecycle import emr_client
from local_cloud.cloud import LocalCloud
from local_cloud.s3 import ObjectStorage
from tests.conftest import serving
from tests.fruits.emr_support import REGION, cloud_in_environment


@contextmanager
def serving_tables(folder: Path) -> Iterator[Catalog]:
    """Run an S3 over *folder*, as `serving` does, with the lake's tables."""
    from fruits.lake import ensure_tables, open_catalog

    with serving(folder):
        opened = open_catalog()
        ensure_tables(opened)
        yield opened


@pytest.fixture(scope="module")
def module_catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """Return the catalog of a lake that the tests of one module share, because none changes it."""
    with serving_tables(tmp_path_factory.mktemp("lake")) as opened:
        yield opened


@pytest.fixture
def storage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ObjectStorage]:
    """Run an S3 of the test's own, and point this process to it.

    It is a copy of the folder `filled`, if the test's module has such a fixture and the test, or
    a fixture of it, asks for that; else it is empty.
    """
    if "filled" in request.fixturenames:
        shutil.copytree(request.getfixturevalue("filled"), tmp_path, dirs_exist_ok=True)
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def catalog(storage: ObjectStorage) -> Catalog:
    """Return the catalog of the test's lake, whose tables are empty but for those of `filled`."""
    from fruits.lake import ensure_tables, open_catalog

    opened = open_catalog()
    ensure_tables(opened)
    return opened


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run one S3 and one EMR for the module; their clients in this process find them by env."""
    with cloud_in_environment(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def emr(cloud: LocalCloud) -> Any:
    """Return the client that the library uses."""
    return emr_client(REGION)
