"""Nobody comes back for a cluster: the lease, the watchdog, the idle limit and the node's timer."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.chaos.cases import Case
from tests.chaos.faults import answering, held
from tests.chaos.lab import HANGING, LEASE_SECONDS
from tests.chaos.observation import calls

full = pytest.mark.full_chaos


def test_scheduler_never_comes_back(case: Case) -> None:
    """A step hangs and nobody waits: once the lease is over, the watchdog ends the cluster."""
    lose_scheduler(case)

    case.await_end_of_clusters()
    case.proves(None, ended_by=["watchdog"])


@full
def test_dag_is_paused(case: Case) -> None:
    """A paused DAG has no teardown: watchdog or idle limit end the cluster, the run is red."""
    run = case.trigger()
    case.await_step("featurize")
    case.lab.pause(True)
    case.await_end_of_clusters()
    case.lab.pause(False)

    case.proves(run, "failed", ended_by=["watchdog", "idle limit"])


@full
def test_dag_is_paused_for_a_moment(case: Case) -> None:
    """Paused for less than a lease, the run goes on with its cluster."""
    run = case.trigger()
    case.await_step("featurize", "COMPLETED")
    case.lab.pause(True)
    case.wait(10)
    case.lab.pause(False)

    case.proves(run)


@full
def test_run_is_deleted(case: Case) -> None:
    """A run deleted in the UI has no teardown: once its lease is over, its cluster is ended."""
    case.lab.replace_step("featurize", HANGING)
    run = case.trigger()
    case.await_step("featurize")
    case.lab.delete_run(run)

    case.await_end_of_clusters()
    case.proves(None, ended_by=["watchdog"])


@full
def test_watchdog_is_killed(unwatched: Case) -> None:
    """A watchdog killed before it could end what it found: the next look ends it."""
    lose_scheduler(unwatched)
    unwatched.wait(LEASE_SECONDS + 2)
    unwatched.lab.set_faults(answering("emr", held(30), operation="SetTerminationProtection"))
    since, journal = unwatched.began, unwatched.lab.journal
    look = unwatched.watchdog.start()
    unwatched.wait_until(
        lambda: calls(journal, "SetTerminationProtection", since), 60, "it found the cluster"
    )
    look.kill()
    look.wait()
    assert unwatched.lab.live_clusters()
    unwatched.lab.set_faults()
    unwatched.watchdog.look()

    unwatched.proves(None, ended_by=["watchdog"])


@full
def test_clock_is_wrong_and_cluster_wanted(unwatched: Case) -> None:
    """A watchdog whose clock is ten minutes off, ahead or behind, ends no cluster in use."""
    run = unwatched.trigger()
    unwatched.await_step("featurize")
    for minutes in (10, -10):
        looked = unwatched.watchdog.look(timedelta(minutes=minutes))
        assert looked.returncode == 0, looked.stdout

    unwatched.proves(run)


@full
@pytest.mark.parametrize("minutes", [-10, 10])
def test_clock_is_wrong_and_cluster_unwanted(unwatched: Case, minutes: int) -> None:
    """A watchdog whose clock is ten minutes off ends what nobody wants when S3 says so."""
    lose_scheduler(unwatched)
    unwatched.watchdog.look(timedelta(minutes=minutes))
    assert unwatched.lab.live_clusters()
    unwatched.wait(LEASE_SECONDS + 2)
    unwatched.watchdog.look(timedelta(minutes=minutes))

    unwatched.proves(None, ended_by=["watchdog"])


def lose_scheduler(case: Case) -> None:
    """Let a run's step hang, and kill the scheduler for good."""
    case.lab.replace_step("featurize", HANGING)
    case.trigger()
    case.await_step("featurize")
    case.lab.airflow.kill("scheduler")
