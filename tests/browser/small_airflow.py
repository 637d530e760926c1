"""A whole Airflow over a local cloud with a few drawn images, of which one is broken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_cloud.airflow import PARSED_ONCE, LocalAirflow
from local_cloud.cloud import LocalCloud
from local_cloud.samples import draw_samples
from tests.browser.chromium import ROOT
from tests.conftest import put_networks
from tests.end_to_end.airflow_runs import INGESTION, WATCHDOG, AirflowRuns

IMAGES = 12
BROKEN = "fruits/Kiwi/<b>cut<b>.jpg"
# Only what is triggered: at 03:00 in Paris a scheduled run would come beside it.
TRIGGERED = {"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"}


@contextmanager
def small_airflow(folder: Path, cache: Path) -> Iterator[AirflowRuns]:
    """Run a new Airflow over an empty *folder*, with weights that *cache* has or gets."""
    with LocalCloud(folder / "cloud") as cloud, pytest.MonkeyPatch.context() as patch:
        environment = cloud.environment()
        for name, value in environment.items():
            patch.setenv(name, value)
        put_networks(cache, cloud.storage.folder / "fruits-lake")
        _fill(cloud.storage.folder / "fruits-images" / "fruits")
        fruits = {
            "FRUITS_IMAGES_URI": "s3://fruits-images/fruits/",
            "FRUITS_WEIGHTS": "seeded",
            "FRUITS_NODE_PYTHON": sys.executable,
            "FRUITS_CACHE_FOLDER": str(cache),
            "FRUITS_POLL_SECONDS": "0.5",
            "FRUITS_PRICES_MAX_AGE_DAYS": "36500",
        }
        more = fruits | PARSED_ONCE | TRIGGERED
        with LocalAirflow(folder / "airflow", ROOT, environment | more) as running:
            runs = AirflowRuns(running)
            runs.wait_for_dags(INGESTION, WATCHDOG)
            yield runs


def _fill(folder: Path) -> None:
    draw_samples(folder, labels=3, images=IMAGES // 3)
    whole = next(folder.rglob("*.jpg"))
    broken = folder.parent / BROKEN
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(whole.read_bytes()[:300])
