"""The DAGs as the DAG processor sees them, in an Airflow whose home is empty; a cloud for tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fruits.conftest import cloud, emr  # noqa: F401  (fixtures of the tasks' tests)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return an empty home for Airflow, so that none of this machine is read or made."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AIRFLOW_HOME", str(home))
        environment.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        environment.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "0")  # none
        yield home


@pytest.fixture(scope="session")
def dags(airflow_home: Path) -> Mapping[str, Any]:
    """Return the DAGs of the repository by id."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "dags")
    assert not bag.import_errors
    return bag.dags


@pytest.fixture(scope="session")
def ingestion(dags: Mapping[str, Any]) -> Any:
    """Return the ingestion DAG."""
    return dags["fruits_ingestion"]


@pytest.fixture(scope="session")
def watchdog(dags: Mapping[str, Any]) -> Any:
    """Return the watchdog's DAG."""
    return dags["fruits_cost_watchdog"]


@pytest.fixture
def outside_of_airflow(airflow_home: Path) -> Iterator[None]:
    """Let a test call execute itself, as Airflow's task runner does."""
    from airflow.sdk.bases.operator import ExecutorSafeguard

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExecutorSafeguard, "test_mode", True)
        yield
