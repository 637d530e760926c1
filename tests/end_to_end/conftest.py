"""A local cloud for each module of whole batches; its clients in this process find it by env."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.cloud_batches import CloudBatches
from tests.end_to_end.node_python import make_node_python
from tests.end_to_end.recorded_cloud import RecordedCloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordedCloud]:
    """Run S3 and EMR over an empty folder, and remember what they are asked."""
    folder = tmp_path_factory.mktemp("cloud")
    with RecordedCloud(folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment().items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="session")
def node_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python as nodes have it."""
    return make_node_python(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def batches(cloud: RecordedCloud, cache_folder: Path, node_python: Path) -> CloudBatches:
    """Return batches with seeded weights."""
    return CloudBatches(cloud, "seeded", cache_folder, node_python)
