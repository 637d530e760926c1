"""What is retried: everything that may pass by itself, and nothing that cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from fruits.errors import FruitsError
from tests.dags.own_airflow import run_in_own_airflow
from tests.dags.test_dag_structure import DAGS


@pytest.fixture(scope="module")
def tries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Run the DAG of failing sensors in an Airflow of its own; return each task's tries."""
    counted: dict[str, int] = run_in_own_airflow("retrying_dag.py", tmp_path_factory.mktemp("home"))
    return counted


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_only_what_may_pass_is_tried_again(tries: dict[str, int], mode: str) -> None:
    """Airflow itself asks the policy, in both modes of a sensor, with one retry to give."""
    counted = {name.partition("-")[0]: n for name, n in tries.items() if name.endswith(mode)}

    assert counted == {
        "deterministic": 1,
        "transient": 2,
        "foreign": 2,
        "no_credentials": 2,
        "once_more": 2,
        "no_more": 1,
        "refused": 1,
        "forbidden": 1,
        "throttled": 2,
    }


@pytest.mark.parametrize("dag_id", DAGS)
def test_every_task_has_the_policy(dags: Mapping[str, Any], dag_id: str) -> None:
    """It comes with default_args, to operators, sensors and decorated tasks alike."""
    from fruits.retries import TransientFailures

    assert all(isinstance(task.retry_policy, TransientFailures) for task in dags[dag_id].tasks)


@pytest.mark.parametrize("dag_id", DAGS)
def test_the_scheduler_knows_that_there_is_a_policy(dags: Mapping[str, Any], dag_id: str) -> None:
    """Serialized DAGs keep a flag, the same at every parse; the worker reads the file for more."""
    from airflow.serialization.serialized_objects import DagSerialization

    first = DagSerialization.to_dict(dags[dag_id])
    again = DagSerialization.from_dict(first)

    assert all(task.has_retry_policy for task in again.tasks)
    assert "TransientFailures" not in json.dumps(first, default=str)


def test_what_may_pass_is_said_by_the_class() -> None:
    """Caps, settings and contracts do not mend themselves; waits, listings and conflicts may."""
    import fruits.commits
    import fruits.erasures
    import fruits.ledger
    import fruits.lifecycle
    import fruits.step_runs
    import fruits.watchdog  # noqa: F401  (each brings its errors)

    transient = {one.__name__ for one in FruitsError.__subclasses__() if one.transient}

    assert transient == {
        "CommitConflictError",
        "DeletedFilesError",
        "ListingError",
        "UndeletedError",
        "WaitTimeoutError",
        "WatchdogError",
    }
