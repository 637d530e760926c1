"""One lab for all cases of a process, a record of each, and a healthy run after the last."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.cases import Case
from tests.chaos.lab import INGESTION, WATCHDOG, Lab, open_lab
from tests.chaos.matrix import Record
from tests.chaos.situation import situation
from tests.chaos.watchdogs import Watchdog
from tests.conftest import put_networks


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Iterator[Lab]:
    """Run the lab, with three images already ingested by a run that nothing disturbed."""
    with open_lab(tmp_path_factory.mktemp("lab"), cache_folder) as lab:
        put_networks(cache_folder, lab.lake)
        lab.wait_until(lambda: _known(lab), 240, "both DAGs are known")
        # These cases have a watchdog of their own, which can be killed and switched off.
        lab.pause(True, WATCHDOG)
        lab.pause(False)
        _prove_health(lab, images=3)
        yield lab
        lab.restore()


@pytest.fixture(scope="package")
def records(lab: Lab) -> Iterator[list[Record]]:
    """Collect the lab's records; a healthy run after its last case counts for all of them."""
    kept: list[Record] = []
    yield kept
    healthy = False
    try:
        _prove_health(lab, images=1)
        healthy = True
    finally:
        for record in kept:
            record.healthy = healthy
            record.write()


@pytest.fixture
def watchdog(lab: Lab) -> Watchdog:
    """Return a watchdog that nobody has started."""
    return Watchdog(lab.environment("watchdog"))


@pytest.fixture
def unwatched(
    lab: Lab, records: list[Record], watchdog: Watchdog, request: pytest.FixtureRequest
) -> Iterator[Case]:
    """Return a case without a watchdog, unless it starts its own."""
    lab.restore()
    record = Record(
        request.module.__name__.rpartition(".")[2].removeprefix("test_"),
        request.node.name,
        faults_before=lab.emr.fired + lab.s3.fired,
    )
    records.append(record)
    case = Case(lab, record, watchdog)
    yield case
    if not record.finished:
        record.problems.append("it did not come to its end")
    record.seconds = round(time.time() - case.began, 1)
    record.write()
    lab.restore()


@pytest.fixture
def case(unwatched: Case) -> Iterator[Case]:
    """Return a case beside which the watchdog looks every period."""
    with unwatched.watchdog:
        yield unwatched


def _known(lab: Lab) -> bool:
    found = {dag["dag_id"] for dag in lab.call("GET", "dags")["dags"]}
    errors = lab.call("GET", "importErrors")["import_errors"]
    assert not errors, errors[0]["stack_trace"]
    return {INGESTION, WATCHDOG} <= found


def _prove_health(lab: Lab, images: int) -> None:
    """Run once without a fault: it must succeed, and bucket and tables agree.

    One lab at a time: all labs begin with such a run, and would wait for each other's cores.
    """
    lab.restore()
    for _ in range(images):
        lab.add_image()
    with (lab.cache / "healthy-run").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        # No guard is asked for here: a task may begin a minute after the step before it while all
        # cores are busy, as they are when a lab begins.
        run, ended = lab.trigger({"cap_minutes": 10}), ("success", "failed")
        (cluster,) = lab.wait_until(lab.live_clusters, 300, "a healthy run's cluster")
        lab.remove_idle_limit(cluster)
        lab.wait_until(lambda: lab.run_state(run) in ended, 600, "a healthy run's end", every=1)
    assert lab.run_state(run) == "success", situation(lab, run)
    assert lab.tables().complete
