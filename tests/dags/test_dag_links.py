"""Buttons on tasks: serialized with the DAG, and leading to what the task named."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fruits.consoles import cluster_url, folder_url

BUTTONS = {
    "sense_changes": {"Batch report": "_link_ReportLink"},
    "create_cluster": {"EMR cluster": "_link_ClusterLink", "EMR logs": "_link_LogsLink"},
    "await_cluster": {"EMR cluster": "_link_ClusterLink", "EMR logs": "_link_LogsLink"},
    "featurize": {"EMR cluster": "_link_ClusterLink", "EMR logs": "_link_LogsLink"},
    "pca": {"EMR cluster": "_link_ClusterLink", "EMR logs": "_link_LogsLink"},
    "report": {"Batch report": "_link_ReportLink"},
}


def test_the_api_server_knows_every_button(ingestion: Any) -> None:
    """What a task offers survives the DAG's serialization, which is all that the UI sees."""
    from airflow.serialization.serialized_objects import DagSerialization

    restored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(ingestion))

    found = {
        task.task_id: {link.name: link.xcom_key for link in task.operator_extra_links}
        for task in restored.tasks
        if task.operator_extra_links
    }
    assert found == BUTTONS


def test_a_button_without_an_address_is_none() -> None:
    """A task that did not get so far leaves '' behind, for which the UI shows no button."""
    from fruits.links import LogsLink

    class Task:
        task_id, dag_id, run_id, map_index = "featurize", "fruits_ingestion", "manual__1", -1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow.sdk.bases.xcom.BaseXCom.get_value", lambda **_: None)

        assert LogsLink().get_link(None, ti_key=Task()) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://lake/logs/j-1/steps/s-1/", "lake", "logs/j-1/steps/s-1/"),
        ("s3://lake/deep/er/logs/j-1/", "lake", "deep/er/logs/j-1/"),
        ("s3://lake", "lake", None),
        ("s3://lake/a b&c#d/", "lake", "a b&c#d/"),
    ],
)
def test_a_folder_in_the_console(uri: str, bucket: str, prefix: str | None) -> None:
    """The bucket is in the path, the folder in the query, whatever characters it has."""
    url = urlsplit(folder_url("eu-west-3", uri))

    query = parse_qs(url.query)
    assert url.hostname == "eu-west-3.console.aws.amazon.com"
    assert url.path == f"/s3/buckets/{bucket}"
    assert query.get("prefix", [None]) == [prefix]
    assert (query["region"], url.fragment) == (["eu-west-3"], "")


def test_a_cluster_in_the_console() -> None:
    """The region is in the host and in the query: consoles of other regions know no such id."""
    assert cluster_url("eu-west-1", "j-1").startswith(
        "https://eu-west-1.console.aws.amazon.com/emr"
    )
    assert cluster_url("eu-west-1", "j-1").endswith("#/clusterDetails/j-1")


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/fruits/batches/b"),
        ("https://example.org/airflow/", "https://example.org/airflow/fruits/batches/b"),
        ("", "/fruits/batches/b"),
    ],
)
def test_the_report_is_where_airflow_is(
    airflow_home: Any, monkeypatch: pytest.MonkeyPatch, base_url: str, expected: str
) -> None:
    """The report's address begins with that of the UI, under a path too."""
    from fruits.links import report_url

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)

    assert report_url("b") == expected
