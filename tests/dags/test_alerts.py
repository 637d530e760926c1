"""What is told of failures and findings, and that telling changes nothing of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from moto import mock_aws

from fruits import alerts
from fruits.settings import Settings
from fruits.watchdog import WatchdogError
from tests.conftest import forget_credentials
from tests.dags.conftest import ROOT
from tests.dags.own_airflow import run_in_own_airflow

REGION = "eu-west-3"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:fruits-alerts"
SETTINGS = Settings(region=REGION, alert_topic=TOPIC)
URL = "https://example.org/airflow"
TI = SimpleNamespace(dag_id="fruits_cost_watchdog", run_id="r+1", task_id="end_unwanted_clusters")
FOUND = {
    "dry_run": False,
    "terminated": ["j-1", "j-2"],
    "findings": [
        {"cluster_id": "j-1", "token": "t-1", "reasons": ["its lease was ended", "it is old"]},
        {"cluster_id": "j-2", "token": "t-2", "reasons": ["it has no lease"]},
    ],
}
TOLD = {
    ("fruits_ingestion", "watcher"),
    ("fruits_cost_watchdog", "end_unwanted_clusters"),
    ("fruits_retention", "delete_what_is_gone"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the DAG of failing tasks in an Airflow of its own; return states and messages."""
    answer: dict[str, Any] = run_in_own_airflow(
        "alerting_dag.py",
        tmp_path_factory.mktemp("home"),
        AIRFLOW__API__BASE_URL=f"{URL}/",
        AWS_ACCESS_KEY_ID="none",
        AWS_SECRET_ACCESS_KEY="none",
    )
    return answer


def test_a_red_run_is_told(run: dict[str, Any]) -> None:
    """DAG, run, what failed, the way out, and where to look: to whoever subscribed."""
    (told,) = [one for one in run["told"] if "watcher" in one["Message"]]

    assert told["TopicArn"] == TOPIC
    assert told["Subject"] == "Fruits! alerting: a run failed"
    assert told["Message"].splitlines() == [
        f"DAG alerting, run {run['run']}",
        "The task watcher failed.",
        "Look at the logs of what failed: featurize, pca.",
        alerts.FAILED,
        f"{URL}/dags/alerting/runs/{quote(run['run'])}",
    ]


def test_what_an_error_says_stays_in_the_log(run: dict[str, Any]) -> None:
    """It may name images, and mails lie about for longer than the retention."""
    (told,) = [one["Message"] for one in run["told"] if "retention" in one["Message"]]

    assert "ValueError." in told.splitlines()
    assert "secret.jpg" not in told
    assert "AKIA" not in told


def test_an_alert_changes_no_state(run: dict[str, Any]) -> None:
    """Told or not, what failed has failed; what succeeded is no news."""
    assert run["states"] == {
        "watcher": "failed",
        "retention": "failed",
        "unheard": "failed",
        "succeed": "success",
    }
    assert len(run["told"]) == 2


def callbacks(topic: str, home: Path) -> dict[tuple[str, str], int]:
    """Return how many alerts each task of our DAGs has, where it has one."""
    from airflow.dag_processing.dagbag import DagBag

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FRUITS_ALERT_TOPIC", topic)
        environment.setenv("FRUITS_REGION", REGION)
        bag = DagBag(ROOT / "dags")
    assert not bag.import_errors
    return {
        (dag.dag_id, task.task_id): len(task.on_failure_callback)
        for dag in bag.dags.values()
        for task in dag.tasks
        if task.on_failure_callback
    }


def test_one_task_of_each_scheduled_dag_tells(airflow_home: Path) -> None:
    """One mail for a red run: the ingestion's watcher speaks for its other tasks."""
    assert callbacks(TOPIC, airflow_home) == dict.fromkeys(TOLD, 1)


def test_without_a_topic_nobody_is_told(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty setting is none: there is nothing that could fail."""
    told: list[Any] = []
    monkeypatch.setattr("fruits.alerts.Alert.tell", lambda *given: told.append(given))

    alerts.tell_findings(Settings(), FOUND, TI)

    assert told == []
    assert callbacks("", airflow_home) == {}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand in for an empty account."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    with mock_aws():
        yield


def published() -> list[str]:
    """Return the messages that the topic got."""
    from moto.sns.models import sns_backends

    notes = sns_backends["123456789012"][REGION].topics[TOPIC].sent_notifications
    return [message for _, message, *_ in notes]


def test_a_finding_is_told(account: None, airflow_home: Path) -> None:
    """Each cluster with the reasons, and where to read on; no link where Airflow has no address."""
    boto3.client("sns", REGION).create_topic(Name="fruits-alerts")

    alerts.tell_findings(SETTINGS, FOUND, TI)

    (told,) = published()
    assert json.loads(told)["default"].splitlines() == [
        "DAG fruits_cost_watchdog, run r+1",
        "j-1: its lease was ended; it is old",
        "j-2: it has no lease",
        alerts.ENDED,
    ]


def test_names_are_no_templates(account: None, airflow_home: Path) -> None:
    """Who triggers a run names it; a task that was killed has no error to tell of."""
    boto3.client("sns", REGION).create_topic(Name="fruits-alerts")
    ti = SimpleNamespace(dag_id="fruits_ingestion", run_id="{{ 6 * 7 }}", task_id="watcher")

    alerts.Alert(SETTINGS)({"ti": ti})

    (told,) = published()
    assert "run {{ 6 * 7 }}" in told
    assert "It was killed" in told


def test_a_finding_that_cannot_be_told_is_no_failed_look(
    account: None, airflow_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The topic is gone: the log says so, and the look goes on."""
    with caplog.at_level(logging.ERROR):
        alerts.tell_findings(SETTINGS, FOUND, TI)

    assert f"{TOPIC} could not be told" in caplog.text


def test_nor_is_one_without_credentials(
    airflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3's own chain is asked, never a connection of Airflow."""
    forget_credentials(monkeypatch, tmp_path / "none")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://key:secret@")

    alerts.tell_findings(SETTINGS, FOUND, TI)

    with pytest.raises(Exception, match="Unable to locate credentials"):
        alerts.Alert(SETTINGS).tell(TI, "subject", "line")


@pytest.mark.parametrize(
    ("dry_run", "findings", "told"),
    [(False, FOUND["findings"], 1), (False, [], 0), (True, FOUND["findings"], 0)],
)
def test_the_watchdog_tells_what_it_ended(
    watchdog: Any, monkeypatch: pytest.MonkeyPatch, dry_run: bool, findings: Any, told: int
) -> None:
    """Neither a quiet look nor a dry run is news."""
    terminated = [] if dry_run else [one["cluster_id"] for one in findings]
    found = FOUND | {"dry_run": dry_run, "findings": findings, "terminated": terminated}
    monkeypatch.setattr("fruits.watchdog.watch", lambda *_, **__: found)
    look, heard = telling(watchdog, monkeypatch)

    list(look({"dry_run": dry_run}, TI))

    assert len(heard) == told


def test_what_a_look_ended_is_told_although_it_failed(
    watchdog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A garbled lease fails the look; its retry finds what was ended no more."""

    def watch(*_: Any, **__: Any) -> None:
        raise WatchdogError("1 things could not be guarded", found=FOUND, problems=("x",))

    monkeypatch.setattr("fruits.watchdog.watch", watch)
    look, heard = telling(watchdog, monkeypatch)

    with pytest.raises(WatchdogError):
        list(look({"dry_run": False}, TI))

    assert len(heard) == 1


def telling(watchdog: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """Return the watchdog's task, with a topic, and the list of what it tells."""
    heard: list[Any] = []
    look = watchdog.get_task("end_unwanted_clusters").python_callable
    monkeypatch.setitem(look.__globals__, "SETTINGS", SETTINGS)
    monkeypatch.setattr("fruits.alerts.Alert.tell", lambda *given: heard.append(given))
    return look, heard
