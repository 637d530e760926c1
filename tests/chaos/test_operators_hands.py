"""What people do to a run while it works: clear, mark, trigger twice, work beside it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.cases import USUAL, Case
from tests.chaos.faults import answering, held
from tests.chaos.lab import ENOUGH

full = pytest.mark.full_chaos


@full
def test_middle_task_is_cleared(case: Case) -> None:
    """A middle task cleared while a later one runs: the rest is done again, nothing twice."""
    run = case.trigger()
    case.await_step("pca")
    case.lab.clear(run, "commit_features")

    case.proves(run, clusters=(1, 2))
    tries = {task["task_id"]: task["try_number"] for task in case.lab.tasks(run)}
    assert min(tries["commit_features"], tries["pca"]) >= 2


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_while_creating(case: Case, state: str) -> None:
    """A run marked while RunJobFlow is on its way: the cluster that comes of it is ended."""
    case.lab.set_faults(answering("emr", held(4), operation="RunJobFlow"))
    run = case.trigger()
    case.await_cluster()
    case.lab.set_run_state(run, state)

    case.proves(run, state, ended_by=[*USUAL, "watchdog", "idle limit"], marked=True)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_while_running(case: Case, state: str) -> None:
    """A run marked while its step runs: its cluster is ended."""
    run = case.trigger()
    case.await_step("featurize")
    case.lab.set_run_state(run, state)

    case.proves(run, state, ended_by=[*USUAL, "watchdog", "idle limit"], marked=True)


@full
def test_two_runs_at_once(case: Case) -> None:
    """Triggered twice, the runs follow each other; the second finds nothing to do."""
    first, second = case.trigger(), case.trigger(images=0)

    assert case.await_state(first) == "success"
    case.proves(second)
    states = case.lab.task_states(second)
    assert {task for task, state in states.items() if state != "skipped"} == {"watcher"}


@full
def test_batch_beside_the_dag(case: Case) -> None:
    """A shell ingests the same images as a run: each has its cluster, each image comes once."""
    run = case.trigger()
    command = [sys.executable, "-m", "fruits.batch"]
    environment = case.lab.environment("batch") | {"FRUITS_CAP_MINUTES": str(ENOUGH)}
    shell = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    state = case.await_state(run)
    code = shell.wait(timeout=240)

    case.proves(run, "success", "failed", clusters=(1, 2), ended_by=[*USUAL, "batch"])
    assert state == "success" or code == 0
    assert case.lab.tables().complete
