"""The scheduler is killed (-9) with its tasks at each stage of a run, and another one starts."""

from __future__ import annotations

import pytest

from tests.chaos.cases import Case
from tests.chaos.faults import answering, held

full = pytest.mark.full_chaos


@full
@pytest.mark.parametrize(
    "task",
    [
        "sense_changes",
        "reserve_cluster",
        "commit_features",
        "commit_components",
        "terminate_cluster",
    ],
)
def test_killed_in_task(case: Case, task: str) -> None:
    """A task that was cut off is done again, and nothing is done twice."""
    run = case.trigger()
    case.await_task(run, task)
    case.restart_scheduler()

    case.proves(run)


def test_killed_while_creating(case: Case) -> None:
    """RunJobFlow was carried out, nobody is left who knows its answer: its cluster is adopted."""
    case.lab.set_faults(answering("emr", held(5), operation="RunJobFlow"))
    run = case.trigger()
    # On a busy machine the next scheduler may need as long as idle limit and lease are here.
    case.lab.remove_idle_limit(case.await_cluster())
    with case.renewing():
        case.restart_scheduler()
        case.await_another_try(run, "create_cluster")

    case.proves(run)


@full
def test_killed_while_awaiting(case: Case) -> None:
    """The cluster gets ready while nobody waits for it; the next scheduler goes on with it."""
    case.lab.slow_down_bootstrap(15)
    run = case.trigger()
    case.await_task(run, "await_cluster")
    case.restart_scheduler()

    case.proves(run)


@pytest.mark.parametrize("step", ["featurize", pytest.param("pca", marks=full)])
def test_killed_while_step_runs(case: Case, step: str) -> None:
    """The step goes on without Airflow and is adopted, not added again."""
    run = case.trigger()
    case.await_step(step)
    case.lab.remove_idle_limit(case.clusters[0].id)
    with case.renewing():
        case.restart_scheduler()
        case.await_another_try(run, step)

    case.proves(run)
    assert len({entry["step"] for entry in case.lab.steps(case.began, step)}) == 1
