"""A local cloud for each module of whole batches; its clients in this process find it by env."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cloud.cloud import LocalCloud
from tests.end_to_end.cloud_batches import CloudBatches


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run S3 and EMR over an empty folder."""
    folder = tmp_path_factory.mktemp("cloud")
    with LocalCloud(folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment().items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def batches(cloud: LocalCloud, cache_folder: Path) -> CloudBatches:
    """Return batches with seeded weights."""
    return CloudBatches(cloud, "seeded", cache_folder)


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which made weights are kept, so that they are made once."""
    return tmp_path_factory.mktemp("cache")
