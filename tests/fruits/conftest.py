"""Fixtures of the lake's tests: tables in an S3 of their own, and the support module's folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyiceberg.catalog import Catalog

from local_cloud.s3 import ObjectStorage
from tests.conftest import s3_environment


@pytest.fixture(scope="module")
def module_catalog(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Catalog]:
    """Return the catalog of a lake that the tests of one module share, because none changes it."""
    from fruits.lake import ensure_tables, open_catalog

    folder = tmp_path_factory.mktemp("lake")
    with ObjectStorage(folder / "s3") as storage, pytest.MonkeyPatch.context() as environment:
        storage.make_bucket("fruits-images")
        storage.make_bucket("fruits-lake")
        for name, value in s3_environment(storage.endpoint_url, folder).items():
            environment.setenv(name, value)
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
