"""Fixtures of the library's tests: tables in an S3 of their own, and a cloud of S3 and EMR."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from fruits.lifecycle import emr_client
from local_cloud.cloud import LocalCloud
from local_cloud.s3 import ObjectStorage
from tests.conftest import serving
from tests.fruits.emr_support import REGION, cloud_in_environment


@pytest.fixture(scope="module")
def module_catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """Return the catalog of a lake that the tests of one module share, because none changes it."""
    from fruits.lake import ensure_tables, open_catalog

    with serving(tmp_path_factory.mktemp("lake")):
        opened = open_catalog()
        ensure_tables(opened)
        yield opened


@pytest.fixture
def catalog(storage: ObjectStorage) -> Catalog:
    """Return the catalog of an empty lake."""
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
