"""What AWS answers is late, wrong or lost: throttling, 5xx, resets, and answers that never came."""

from __future__ import annotations

import pytest

from tests.chaos.cases import Case
from tests.chaos.faults import (
    LOST,
    Rule,
    answering,
    failing,
    held,
    resetting,
    throttling,
)

full = pytest.mark.full_chaos


def test_answer_of_run_job_flow_is_lost(case: Case) -> None:
    """A cluster was made, the connection broke: it is found by its token, no second is made."""
    case.lab.set_faults(answering("emr", LOST, operation="RunJobFlow", times=1))
    run = case.trigger()

    case.proves(run)


@full
def test_answer_of_add_steps_is_lost(case: Case) -> None:
    """Steps whose adding was not answered are found by their names, none runs twice."""
    case.lab.set_faults(answering("emr", LOST, operation="AddJobFlowSteps", times=2))
    run = case.trigger()

    case.proves(run)
    added = {entry["step"] for entry in case.lab.steps(case.began, "featurize")}
    assert len(added) == 1


@full
def test_run_job_flow_is_refused(case: Case) -> None:
    """RunJobFlow answers 500 without making a cluster, twice: the third try makes the one."""
    case.lab.set_faults(failing("emr", operation="RunJobFlow", times=2))
    run = case.trigger()

    case.proves(run)


@full
def test_task_dies_between_creation_and_its_note(case: Case) -> None:
    """The process that sent RunJobFlow is killed before it has the id: the retry adopts."""
    case.lab.set_faults(answering("emr", held(5), operation="RunJobFlow", times=1))
    run = case.trigger()
    case.await_cluster()
    case.lab.kill_task_process()

    case.proves(run)


@full
def test_describe_cluster_is_throttled_after_creation(case: Case) -> None:
    """The first six DescribeClusters are throttled: no second cluster comes of it."""
    # The client's own pauses between tries are not shortened, the lab's lease is, to 45 seconds.
    case.lab.set_faults(throttling("emr", operation="DescribeCluster", times=6))
    run = case.trigger()

    case.proves(run)


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("all", 0.05),
        pytest.param("throttling", 0.2, marks=full),
        pytest.param("failing", 0.2, marks=full),
        pytest.param("resetting", 0.2, marks=full),
    ],
)
def test_every_call_may_fail(case: Case, kind: str, share: float) -> None:
    """A share of all calls to EMR and S3 fails, reads and writes alike: the run does not."""
    case.lab.set_faults(*faults(kind, share))
    run = case.trigger()

    case.proves(run, clusters=(1, 2))
    assert case.record.faults > 0


@full
def test_every_second_call_fails(case: Case) -> None:
    """Half of all calls fail: the run may fail too, but not quietly, and not at any price."""
    case.lab.set_faults(*faults("all", 0.5))
    run = case.trigger()

    case.await_state(run, seconds=420)
    guards = ("airflow", "EMR: last step done", "watchdog", "idle limit", "timer on the node")
    case.proves(run, "success", "failed", clusters=(0, 4), ended_by=guards)
    assert case.record.faults > 20


def faults(kind: str, share: float) -> list[Rule]:
    """Return rules by which a *share* of all calls to both services fails."""
    kinds = {"throttling": throttling, "failing": failing, "resetting": resetting}
    chosen = list(kinds.values()) if kind == "all" else [kinds[kind]]
    return [make(service, share / len(chosen)) for service in ("emr", "s3") for make in chosen]
