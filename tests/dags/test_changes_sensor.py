"""Looking for changes: who looks again, who looks once, and who waits for whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BUSY = {"sense_changes": "success", "watcher": None}
OVER = {"sense_changes": "success", "watcher": "failed"}
LOOKING = {"sense_changes": "running", "watcher": None}


@dataclass
class Runs:
    """Stands in for the task instance of the run `mine`: what Airflow tells of the DAG's runs."""

    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    not_running: tuple[str, ...] = ()
    dag_id: str = "fruits_ingestion"
    run_id: str = "mine"

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        """Count the running runs, this one among them."""
        assert states == ["running"]
        return 1 + len(self.states.keys() - set(self.not_running))

    def get_task_states(self, dag_id: str, task_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return the states of the tasks of all runs."""
        assert set(task_ids) == {"sense_changes", "watcher"}
        return {"mine": LOOKING} | self.states

    def get_dagrun_state(self, dag_id: str, run_id: str) -> Any:
        """Return the state of a run, as the Task SDK does: an enum whose str() is another."""
        from airflow.sdk.api.datamodels._generated import DagRunState

        return DagRunState.QUEUED if run_id in self.not_running else DagRunState.RUNNING


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every look find nothing, and note it."""
    from fruits import ingestion

    noted: list[str] = []

    def nothing(settings: Any, batch: str, run_id: str) -> dict[str, Any]:
        noted.append(run_id)
        return {"reduce": False, "remove": False}

    monkeypatch.setattr(ingestion, "sense_changes", nothing)
    return noted


def context(runs: Runs, run_type: str) -> dict[str, Any]:
    """Return the context of a run of that type."""
    after = datetime(2026, 11, 18, 2, tzinfo=UTC)
    run = SimpleNamespace(run_after=after, run_id="mine", run_type=run_type)
    return {"dag_run": run, "ti": runs, "params": {}}


def sensor(**more: Any) -> Any:
    """Return the sensor of the ingestion."""
    from fruits.sensors import ChangesSensor

    return ChangesSensor(task_id="sense_changes", **more)


def test_a_scheduled_run_looks_again(airflow_home: Path, looks: list[str]) -> None:
    """Its window is not over because nothing is there yet."""
    assert not sensor().poke(context(Runs(), "scheduled"))
    assert looks == ["mine"]


@pytest.mark.parametrize("run_type", ["manual", "backfill", "asset_triggered"])
def test_any_other_run_looks_once(airflow_home: Path, looks: list[str], run_type: str) -> None:
    """Nobody waits two hours for each day of a backfill that finds nothing."""
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match=f"a {run_type} run looks once"):
        sensor().poke(context(Runs(), run_type))


@pytest.mark.parametrize("run_type", ["backfill", "scheduled"])
def test_a_run_waits_while_another_is_at_work(
    airflow_home: Path, looks: list[str], run_type: str
) -> None:
    """It does not even look: it would find what the other is about to commit."""
    assert not sensor().poke(context(Runs({"other": BUSY}), run_type))
    assert looks == []


def test_nobody_waits_for_runs_that_work_on_nothing(airflow_home: Path, looks: list[str]) -> None:
    """One that is over, looks, found nothing or was never begun; nor one that waits for this."""
    skipped = {"sense_changes": "skipped", "watcher": None}
    states = {"over": OVER, "looks": LOOKING, "nothing": skipped, "new": {}, "cleared": BUSY}

    sensor().poke(context(Runs(states, not_running=("cleared",)), "scheduled"))

    assert looks == ["mine"]


def test_waiting_for_another_has_an_end(airflow_home: Path, looks: list[str]) -> None:
    """A window that passes so is a failure that names the other run, and no green skip."""
    from airflow.sdk.exceptions import AirflowFailException

    waiting = sensor(timeout=0, poke_interval=0, mode="poke")

    with pytest.raises(AirflowFailException, match="Run other was still at work"):
        waiting.execute(context(Runs({"other": BUSY}), "backfill"))
