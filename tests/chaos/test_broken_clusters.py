"""Clusters that do not do their work: nodes that never come, bootstraps and steps that fail."""

from __future__ import annotations

import pytest

from tests.chaos.cases import Case
from tests.chaos.lab import HANGING

full = pytest.mark.full_chaos


@full
def test_step_hangs(case: Case) -> None:
    """A step without an end lives to its cluster's cap, and the run is red."""
    case.lab.replace_step("featurize", HANGING)
    run = case.trigger(cap_minutes=2)

    case.proves(run, "failed", ended_by=["timer on the node", "watchdog", "airflow"])


def test_step_writes_nothing(case: Case) -> None:
    """A step that ends with 0 and wrote nothing makes no green run."""
    case.lab.replace_step("featurize", "pass\n")
    run = case.trigger()

    case.proves(run, "failed")


def test_last_step_writes_nothing(case: Case) -> None:
    """The features of a run whose PCA wrote nothing are committed; the run is red all the same."""
    case.lab.replace_step("pca", "pass\n")
    run = case.trigger()

    case.proves(run, "failed")
    tables = case.lab.tables()
    assert set(tables.features) == tables.bucket != set(tables.components)


def test_bootstrap_fails(case: Case) -> None:
    """EMR ends a cluster whose bootstrap fails, and the run is red."""
    case.lab.replace_bootstrap("exit 1\n")
    run = case.trigger()

    case.proves(run, "failed", ended_by=["EMR: bootstrap failed"])


@full
def test_bootstrap_hangs(case: Case) -> None:
    """A node that never gets ready, and so never sets its timer, is not waited for for ever."""
    case.lab.replace_bootstrap("sleep 1000\n")
    run = case.trigger()

    case.proves(run, "failed", ended_by=["airflow"])


def test_bootstrap_hangs_and_nobody_waits(case: Case) -> None:
    """A node that never gets ready has neither timer nor idle limit: the watchdog ends it."""
    case.lab.replace_bootstrap("sleep 1000\n")
    run = case.trigger()
    case.await_task(run, "await_cluster")
    case.lab.airflow.kill("scheduler")

    case.await_end_of_clusters()
    case.proves(None, ended_by=["watchdog"])


@full
def test_capacity_never_comes(case: Case) -> None:
    """A cluster whose machines cannot be had is given up, and the run is red."""
    case.lab.take_capacity("c6i.2xlarge")
    run = case.trigger()

    case.proves(run, "failed", ended_by=["airflow"])


def test_cluster_is_protected(case: Case) -> None:
    """Somebody switched on termination protection: the teardown switches it off."""
    case.lab.replace_step("featurize", "import time\ntime.sleep(5)\nraise SystemExit(1)\n")
    run = case.trigger()
    case.lab.protect(case.await_cluster())

    case.proves(run, "failed", ended_by=["airflow"])


def test_teardown_is_killed(case: Case) -> None:
    """A teardown whose process is killed is tried again, and ends the cluster."""
    case.lab.replace_step("featurize", "raise SystemExit(1)\n")
    run = case.trigger()
    case.await_task(run, "terminate_cluster")
    case.lab.kill_task_process()

    case.proves(run, "failed", ended_by=["airflow", "watchdog"])
