"""A browser, and a whole Airflow over the local cloud for it to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import NoBrowserError, fetch, find
from tests.browser.small_airflow import small_airflow
from tests.end_to_end.airflow_runs import AirflowRuns


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
    with small_airflow(tmp_path_factory.mktemp("small"), cache_folder) as runs:
        yield runs
