"""A browser, and a whole Airflow over the local cloud for it to look at."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_cloud.airflow import PARSED_ONCE, LocalAirflow
from local_cloud.cloud import LocalCloud
from local_cloud.samples import draw_samples
from tests.browser.chromium import ROOT, NoBrowserError, fetch, find
from tests.conftest import put_networks
from tests.end_to_end.airflow_runs import INGESTION, WATCHDOG, AirflowRuns

IMAGES = 12
BROKEN = "fruits/Kiwi/<b>cut<b>.jpg"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Run a headless Chromium; without one CI fails, and others are told what is not tested."""
    try:
        chromium = find() or fetch()
    except NoBrowserError as error:
        told = f"NOTHING LOOKED AT THE PAGE: there is no browser. {error}"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    with chromium.running() as running:
        yield running


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Iterator[AirflowRuns]:
    """Run a new Airflow over a bucket with a few images, of which one is broken."""
    folder = tmp_path_factory.mktemp("cloud")
    with LocalCloud(folder) as cloud, pytest.MonkeyPatch.context() as patch:
        environment = cloud.environment()
        for name, value in environment.items():
            patch.setenv(name, value)
        put_networks(cache_folder, cloud.storage.folder / "fruits-lake")
        _fill(cloud.storage.folder / "fruits-images" / "fruits")
        fruits = {
            "FRUITS_IMAGES_URI": "s3://fruits-images/fruits/",
            "FRUITS_WEIGHTS": "seeded",
            "FRUITS_MAX_QUARANTINE_SHARE": "0.2",
            "FRUITS_NODE_PYTHON": sys.executable,
            "FRUITS_CACHE_FOLDER": str(cache_folder),
            "FRUITS_POLL_SECONDS": "0.5",
            "FRUITS_PRICES_MAX_AGE_DAYS": "36500",
        }
        home = tmp_path_factory.mktemp("airflow")
        with LocalAirflow(home, ROOT, environment | fruits | PARSED_ONCE) as running:
            runs = AirflowRuns(running)
            runs.wait_for_dags(INGESTION, WATCHDOG)
            yield runs


def _fill(folder: Path) -> None:
    draw_samples(folder, labels=3, images=IMAGES // 3)
    whole = next(folder.rglob("*.jpg"))
    broken = folder.parent / BROKEN
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(whole.read_bytes()[:300])
