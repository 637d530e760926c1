"""A batch from a shell: however it ends, it is reported as a run of the DAG is."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fruits.batch import ShellRun, _exit_code, main
from fruits.batches import Batch
from fruits.lake import open_table
from fruits.objects import read_bytes
from fruits.reports import report_folder
from fruits.settings import Settings
from fruits.step_runs import StepFailedError
from fruits.terminal import Terminal
from local_cloud.s3 import ObjectStorage
from tests.conftest import forget_credentials

BEGAN = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
FOUND = {"counts": {"listed": 9, "added": 9}, "feature_model": "M"}


def shell_run() -> ShellRun:
    """Return a run that has not begun."""
    settings = Settings()
    batch = Batch(settings.lake, "20261121T030000-1a2b3c4d")
    return ShellRun(settings, Terminal(), batch.numbered(1, 1), BEGAN)


def refused() -> Any:
    """Do what EMR does when an account has no more machines."""
    raise RuntimeError("no more machines")


def rows() -> list[dict[str, Any]]:
    """Return the rows of `runs`."""
    return list(open_table("runs").scan().to_arrow().to_pylist())


def test_what_failed_is_told_by_row_and_page(storage: ObjectStorage) -> None:
    """A cluster that could not be had fails the batch, and nothing points to a run in Airflow."""
    run = shell_run()
    run._do("sense_changes", "Sense", lambda: FOUND)
    with pytest.raises(RuntimeError):
        run._do("create_cluster", "Create", refused)

    run.report()

    (row,) = rows()
    assert (row["outcome"], row["failed_tasks"]) == ("failed", "create_cluster")
    assert (row["run_id"], row["added"], row["started_at"]) == (None, 9, BEGAN)
    page = read_bytes(f"{report_folder(run.settings.lake, run.batch)}/report.html").decode()
    assert "create_cluster" in page
    assert "The terminal that it ran in said why." in page
    assert "None" not in page


@pytest.mark.parametrize("state", ["success", "failed"])
def test_who_found_nothing_reports_nothing(storage: ObjectStorage, state: str) -> None:
    """Neither a look that found nothing nor one that failed leaves a row."""
    run = shell_run()
    run.states["sense_changes"] = state

    run.report()

    assert list((storage.folder / "fruits-lake").iterdir()) == []


def test_a_step_that_failed_is_told_although_its_cluster_could_not_be_ended(
    storage: ObjectStorage,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """When credentials expire during a step, both are said, and what ended the step last."""
    run = shell_run()
    forget_credentials(monkeypatch, tmp_path / "none")

    def step() -> None:
        with run._terminating():
            raise StepFailedError("the weights are broken")

    assert _exit_code(step, run.terminal) == 1

    told = " ".join(capsys.readouterr().out.split())
    assert "NoCredentialsError" in told
    assert "The cluster may still run" in told
    assert told.index("may still run") < told.index("the weights are broken")
    assert run.states["terminate_cluster"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_told_to_go_ends_the_cluster_first(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A closed connection and a stopped container are as good as Ctrl-C; told twice, as once."""
    ended = []

    def terminate(run: ShellRun) -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        ended.append(run.batch)

    def ingest(run: ShellRun) -> None:
        with run._terminating():
            os.kill(os.getpid(), number)
            time.sleep(10)

    monkeypatch.setattr(ShellRun, "ingest", ingest)
    monkeypatch.setattr(ShellRun, "_terminate", terminate)
    monkeypatch.setattr(sys, "argv", ["fruits.batch"])
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert main() == 130
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)

    assert len(ended) == 1
