"""Each guard alone: the others are off or dead, and this one ends the cluster by itself.

Off by default here: the node's timer, the idle limit and, but where it is the guard, the watchdog.
"""

from __future__ import annotations

import pytest

from tests.chaos.cases import Case
from tests.chaos.faults import LOST, answering
from tests.chaos.lab import ENOUGH, HANGING

full = pytest.mark.full_chaos
SHORTEST = 2  # minutes: the least cap that the lab's form takes


def test_teardown_alone(unwatched: Case) -> None:
    """A step fails, nothing else would end the cluster: the teardown does."""
    unwatched.lab.replace_step("featurize", "raise SystemExit(1)\n")
    run = begin(unwatched)

    unwatched.proves(run, "failed", ended_by=["airflow"])


@full
def test_waiting_time_alone(unwatched: Case) -> None:
    """A step hangs: the task that waits for it gives up at the cap, and the teardown follows."""
    unwatched.lab.replace_step("featurize", HANGING)
    run = begin(unwatched, cap_minutes=SHORTEST)

    unwatched.proves(run, "failed", ended_by=["airflow"])


@full
def test_end_after_last_step_alone(unwatched: Case) -> None:
    """All of Airflow is lost while the last step works: the cluster ends with that step."""
    begin(unwatched)
    unwatched.await_step("pca", seconds=180)
    # The step is seen at once, the task that added it says a moment later that it was the last.
    unwatched.await_call("SetKeepJobFlowAliveWhenNoSteps")
    unwatched.lab.lose_airflow()

    unwatched.proves(None, ended_by=["EMR: last step done"])


@full
def test_idle_limit_alone(unwatched: Case) -> None:
    """All of Airflow is lost before a step was added: the idle limit ends the cluster."""
    unwatched.lab.replace_bootstrap("sleep 10\n")
    run = unwatched.trigger()
    unwatched.await_task(run, "await_cluster")
    unwatched.lab.lose_airflow()

    unwatched.proves(None, ended_by=["idle limit"])


@full
def test_timer_alone(unwatched: Case) -> None:
    """A step hangs, all of Airflow is lost: the node's timer ends the cluster at its cap."""
    unwatched.lab.replace_step("featurize", HANGING)
    begin(unwatched, timer=True, cap_minutes=SHORTEST)
    unwatched.await_step("featurize")
    unwatched.lab.lose_airflow()

    unwatched.proves(None, ended_by=["timer on the node"])


@full
def test_lease_alone(case: Case) -> None:
    """A step hangs, all of Airflow is lost: the watchdog ends what nobody waits for."""
    case.lab.replace_step("featurize", HANGING)
    begin(case)
    case.await_step("featurize")
    case.lab.lose_airflow()

    case.proves(None, ended_by=["watchdog"])
    assert case.record.longest < 60 * ENOUGH


@full
def test_age_alone(case: Case) -> None:
    """A step hangs and its lease is renewed for ever: the watchdog ends the cluster at its cap."""
    case.lab.replace_step("featurize", HANGING)
    begin(case, cap_minutes=SHORTEST)
    case.await_step("featurize")
    case.lab.lose_airflow()

    with case.renewing():
        case.proves(None, ended_by=["watchdog"])
    assert case.record.longest > 60 * SHORTEST


@full
def test_token_alone(unwatched: Case) -> None:
    """The answer of RunJobFlow is lost: its cluster is found by the token, no second is made."""
    unwatched.lab.set_faults(answering("emr", LOST, operation="RunJobFlow", times=1))
    run = begin(unwatched)

    unwatched.proves(run)


@full
def test_duplicates_alone(unwatched: Case) -> None:
    """A second cluster of the run's token turns up: the task that waits for the first ends it."""
    run = begin(unwatched)
    unwatched.lab.run_again(unwatched.clusters[0].id)
    unwatched.await_task(run, "featurize", "success", seconds=180)
    second = unwatched.clusters[1]
    assert second.guard == "airflow"
    assert second.ended

    unwatched.proves(run, clusters=2)


def begin(case: Case, *, timer: bool = False, **conf: int) -> str:
    """Trigger a run whose cluster has no idle limit and, unless asked for, no timer."""
    if not timer:
        case.lab.replace_bootstrap("exit 0\n")
    run = case.trigger(**conf)
    case.lab.remove_idle_limit(case.await_cluster())
    return run
