"""Airflow's processes: killed as a lost machine, started again, and none left behind."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine

from local_cloud import airflow as local_airflow
from local_cloud import airflow_local_settings
from local_cloud.addresses import HeldPort, is_taken
from local_cloud.airflow import WRITE_PATIENCE, AirflowError, LocalAirflow
from tests.local_cloud.living import lives, session_of

# Stands in for the airflow command: a process with a task in a process group of its own, which
# ignores SIGTERM, has a long title as Airflow's have, and lives until it is killed.
COMMAND = """#!/usr/bin/env bash
[ "$1" = db ] && exit 0
PYTHON - <<'TASK' &
import os, signal, time
from setproctitle import setproctitle
setproctitle("airflow worker -- " + 2000 * "x")
os.setpgid(0, 0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(1000)
TASK
sleep 1000
"""


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalAirflow:
    """Return an Airflow whose command is the stand-in: the real one takes half a minute."""
    command = tmp_path / "airflow"
    command.write_text(COMMAND.replace("PYTHON", sys.executable))
    command.chmod(0o755)
    monkeypatch.setattr(LocalAirflow, "_command", lambda *_: [str(command)])
    monkeypatch.setattr(
        LocalAirflow, "_healthy", lambda self: len(tasks(self)) == 4 and len(every(self)) == 12
    )
    return LocalAirflow(tmp_path / "home", tmp_path, {})


def tasks(airflow: LocalAirflow) -> list[psutil.Process]:
    """Return the processes that left their process group."""
    return [one for one in every(airflow) if os.getpgid(one.pid) == one.pid != session_of(one)]


def every(airflow: LocalAirflow) -> list[psutil.Process]:
    """Return all processes of an Airflow."""
    return [one for name in local_airflow.PROCESSES for one in airflow.processes(name)]


def test_killed_process_takes_its_tasks_along(airflow: LocalAirflow) -> None:
    """Killing the scheduler kills its task too, wherever it hid; the others live; it comes back."""
    with airflow:
        (scheduler, *_), others = airflow.processes("scheduler"), airflow.processes("triggerer")

        airflow.kill("scheduler")
        gone = airflow.processes("scheduler")
        left = tasks(airflow)
        airflow.revive("scheduler")

        assert gone == []
        assert len(left) == 3
        assert all(lives(one) for one in others)
        airflow.wait_until_healthy(20)
        assert scheduler.pid not in {one.pid for one in airflow.processes("scheduler")}


def test_nothing_is_left_behind(airflow: LocalAirflow) -> None:
    """Stopping ends tasks that would not end themselves."""
    with airflow:
        started = tasks(airflow)

    assert len(started) == 4
    assert not any(lives(one) for one in started)


def test_nothing_is_left_of_a_process_that_ended(airflow: LocalAirflow, wait_for: Any) -> None:
    """A task whose scheduler was killed from outside ends with all the others."""
    with airflow:
        started = tasks(airflow)
        psutil.Process(airflow.processes("scheduler")[0].pid).kill()
        wait_for(lambda: not airflow.processes("scheduler"))

    assert not any(lives(one) for one in started)


def test_what_a_killed_one_left_is_ended_before_another_starts(
    airflow: LocalAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No two schedulers work on one database: those of an Airflow whose owner was killed end."""
    airflow.start()
    left = every(airflow)
    migrated: list[bool] = []
    monkeypatch.setattr(
        LocalAirflow, "_migrate", lambda _: migrated.append(any(lives(one) for one in left))
    )

    with LocalAirflow(airflow.folder, airflow.root, {}):
        assert migrated == [False]
        assert len(left) == 12


def test_its_port_is_kept_for_it(airflow: LocalAirflow) -> None:
    """Others are refused it in the seconds of the migration; its own server can listen there."""
    with socket.socket() as other, pytest.raises(OSError, match="already in use"):
        other.bind(("127.0.0.1", airflow.port))
    with socket.create_server(("127.0.0.1", airflow.port)):
        assert is_taken(airflow.port)


def test_process_that_ended_is_named(airflow: LocalAirflow, wait_for: Any) -> None:
    """Waiting for health says which process ended, not only that something is missing."""
    with airflow:
        for process in airflow.processes("triggerer"):
            process.kill()
        wait_for(lambda: not airflow.processes("triggerer"))

        with pytest.raises(AirflowError, match="triggerer ended"):
            airflow.wait_until_healthy(20)


def test_database_that_does_not_come_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration is not waited for for ever: whoever started Airflow has a limit, too."""
    monkeypatch.setattr(LocalAirflow, "_command", lambda *_: ["sh", "-c", "exec sleep 1000"])
    monkeypatch.setattr(local_airflow, "MIGRATE_PATIENCE", 0.1)

    with pytest.raises(AirflowError, match=r"db migrate is not done after 0\.1 s"):
        LocalAirflow(tmp_path / "home", tmp_path, {}).start()


def test_a_port_that_somebody_has_is_refused(
    tmp_path: Path, airflow: LocalAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Airflow's answers would be taken for ours: docker-compose has the same port."""
    monkeypatch.setattr(LocalAirflow, "_healthy", lambda _: True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(AirflowError, match=f"Port {port} is in use"):
            LocalAirflow(tmp_path / "home", tmp_path, {}, port).start()


def test_only_a_process_that_nobody_killed_is_missed(airflow: LocalAirflow, wait_for: Any) -> None:
    """A process that ended by itself is an error, with its log; one that was killed is none."""
    with airflow:
        airflow.kill("triggerer")
        airflow.check_alive()
        for process in airflow.processes("scheduler"):
            process.kill()
        wait_for(lambda: not airflow.processes("scheduler"))

        with pytest.raises(AirflowError, match="scheduler ended"):
            airflow.check_alive()


def test_processes_wait_for_each_others_writes(tmp_path: Path) -> None:
    """A write waits for another process' for a minute: a scheduler ends where SQLite gives up."""
    settings = LocalAirflow(tmp_path / "a home", tmp_path, {}).command_settings
    (tmp_path / "a home").mkdir()
    engine = create_engine(settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])

    with engine.connect() as connection:
        waits = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()

    assert waits == 1000 * WRITE_PATIENCE
    assert (tmp_path / "a home" / "airflow.db").exists()


class ApiServer(BaseHTTPRequestHandler):
    """Answers as Airflow's API does, as far as a caller needs it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"access_token": "t", "total_entries": 0}')


def test_api_is_not_asked_by_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server is on this machine: a proxy would look for it on its own."""
    nobody = HeldPort()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{nobody.number}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), ApiServer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

        answer = LocalAirflow(tmp_path, tmp_path, {}, server.server_port).call("GET", "dags")
        server.shutdown()

    assert answer["total_entries"] == 0


def test_all_processes_have_the_local_settings(airflow: LocalAirflow) -> None:
    """Airflow finds them in its home, so that a command from a shell has them, too."""
    with airflow:
        copied = airflow.folder / "config" / "airflow_local_settings.py"

        assert copied.read_bytes() == Path(airflow_local_settings.__file__).read_bytes()


def test_who_reads_in_a_savepoint_can_write_afterwards(tmp_path: Path) -> None:
    """Nobody writes in between; Airflow asks for a backfill so, and would be refused at once."""
    engine = create_engine(f"sqlite:///{tmp_path / 'airflow.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("CREATE TABLE runs (id)")

    with engine.begin() as ours, closing(sqlite3.connect(tmp_path / "airflow.db", 0)) as others:
        with ours.begin_nested():
            assert not ours.exec_driver_sql("SELECT id FROM runs").all()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                others.execute("INSERT INTO runs VALUES ('scheduled')")
            ours.exec_driver_sql("INSERT INTO runs VALUES ('backfill')")
        with ours.begin_nested():  # in the transaction that has begun
            ours.exec_driver_sql("INSERT INTO runs VALUES ('backfill')")

    with engine.connect() as connection:
        assert len(connection.exec_driver_sql("SELECT id FROM runs").all()) == 2
