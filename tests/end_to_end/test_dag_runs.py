"""The real DAGs under a real Airflow against the local cloud: a batch, its reruns, its failures."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest

from fruits.clusters import TOKEN_TAG
from fruits.leases import Lease, grant_lease
from local_cloud.airflow import PARSED_ONCE, LocalAirflow
from local_cloud.samples import draw_samples
from tests.aws.stacks import empty_account, make_stack
from tests.conftest import put_networks
from tests.docs.examples import examples
from tests.end_to_end import far_schedules
from tests.end_to_end.airflow_runs import INGESTION, SWITCH, WATCHDOG, AirflowRuns, Run
from tests.end_to_end.allowed_calls import airflow_calls, node_calls
from tests.end_to_end.cloud_batches import ROOT, CloudBatches
from tests.end_to_end.recorded_cloud import RecordedCloud
from tests.fruits.emr_support import request

LAKE = "s3://fruits-lake"
INDEX = "fruit_index"
FIRST = 24
FAR = timedelta(hours=6)
PROMISES = {"variance_target": 0.9, "cap_minutes": 30}


@pytest.fixture(scope="module")
def orchard(batches: CloudBatches, tmp_path_factory: pytest.TempPathFactory) -> CloudBatches:
    """Fill the bucket with 24 images of 4 labels."""
    put_networks(batches.cache_folder, batches.cloud.storage.folder / "fruits-lake")
    drawn = tmp_path_factory.mktemp("drawn")
    draw_samples(drawn, labels=4, images=FIRST // 4)
    for image in sorted(drawn.rglob("*.jpg")):
        batches.add(image, f"{image.parent.name}/{image.name}")
    return batches


@pytest.fixture(scope="module")
def airflow(
    cloud: RecordedCloud, orchard: CloudBatches, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowRuns]:
    """Run one Airflow for the module, set up by nothing but its environment."""
    fruits = {
        "FRUITS_IMAGES_URI": "s3://fruits-images/fruits/",
        "FRUITS_WEIGHTS": orchard.weights,
        "FRUITS_NODE_PYTHON": str(orchard.node_python),
        "FRUITS_CACHE_FOLDER": str(orchard.cache_folder),
        "FRUITS_POLL_SECONDS": "0.5",
        "FRUITS_PRICES_MAX_AGE_DAYS": "36500",
    }
    others = tmp_path_factory.mktemp("others")
    (others / "fruit_index.py").write_text(examples("reading.md")[-1])
    environment = (
        cloud.recorded_environment()
        | fruits
        | PARSED_ONCE
        | bundles(ROOT / "dags", others)
        | far_schedules.far_hour()
    )
    settings = Path(far_schedules.__file__)
    folder = tmp_path_factory.mktemp("airflow")
    with LocalAirflow(folder, ROOT, environment, local_settings=settings) as running:
        runs = AirflowRuns(running)
        runs.wait_for_dags(INGESTION, WATCHDOG, SWITCH, INDEX)
        assert min(runs.next_by_schedule(INGESTION, WATCHDOG)) > datetime.now(UTC) + FAR
        running.call("PATCH", f"dags/{INDEX}", {"is_paused": False})
        yield runs


def bundles(*folders: Path) -> dict[str, str]:
    """Return the variable that lets Airflow find DAGs in *folders*."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    listed = [
        {"name": folder.name, "classpath": local, "kwargs": {"path": str(folder)}}
        for folder in folders
    ]
    return {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(listed)}


class Failure(NamedTuple):
    """A run whose featurize step failed: its row of `runs`, and the features before it."""

    run: Run
    row: dict[str, Any]
    before: set[tuple[str, str]]


@pytest.fixture(scope="module")
def failure(
    orchard: CloudBatches, airflow: AirflowRuns, tmp_path_factory: pytest.TempPathFactory
) -> Failure:
    """Let a run over two new images meet a network that cannot be loaded; then repair it."""
    before = orchard.versions("features")
    add_two_images(orchard, tmp_path_factory.mktemp("new"))
    (network,) = (orchard.cloud.storage.folder / "fruits-lake" / "networks").glob("*.tflite")
    whole = network.read_bytes()
    network.write_bytes(b"not a network")
    run = airflow.trigger(INGESTION, {})
    network.write_bytes(whole)
    return Failure(run, reported(orchard, run), before)


def reported(orchard: CloudBatches, run: Run) -> dict[str, Any]:
    """Return the one row of `runs` that the run has."""
    from fruits.lake import open_catalog, open_table

    rows = open_table("runs", open_catalog()).scan().to_arrow().to_pylist()
    (row,) = (row for row in rows if row["run_id"] == run.id)
    return dict(row)


class TestOrchardInAirflow:
    """One story: each test begins where the one before it ended."""

    def test_a_triggered_run_fills_the_tables(
        self, orchard: CloudBatches, airflow: AirflowRuns
    ) -> None:
        """All images become features and components; the form's values are the run's."""
        run = airflow.trigger(INGESTION, PROMISES)

        assert run.state == "success", run.states
        assert run.tasks("success") == set(run.states)
        assert len(orchard.versions("features")) == FIRST
        assert orchard.versions("components") == orchard.versions("features")
        row, events = reported(orchard, run), airflow.asset_events(run)
        assert (row["outcome"], row["failed_tasks"]) == ("success", "")
        assert (row["added"], row["features"], row["quarantined"]) == (FIRST, FIRST, 0)
        assert row["explained_variance_kept"] >= 0.9
        assert 0 < row["actual_cost"] < row["worst_case"]
        assert events["fruits_features"]["features"] == FIRST
        assert events["fruits_components"]["model_version"] == row["model_version"]
        assert cluster_state(row["cluster_id"]) == "TERMINATED"
        said = installed(orchard, row["cluster_id"])
        assert len(said) == 1 + row["workers"]
        assert all("nothing to install" in one for one in said)

    def test_aa_a_dag_of_somebody_else_starts_after_it(self, airflow: AirflowRuns) -> None:
        """The example of docs/reading.md runs once the components are committed."""
        (run,) = airflow.airflow.call("GET", f"dags/{INDEX}/dagRuns")["dag_runs"]

        assert airflow.follow(INDEX, run["dag_run_id"]).state == "success"
        assert run["run_type"] == "asset_triggered"

    def test_b_nothing_new_costs_nothing(self, orchard: CloudBatches, airflow: AirflowRuns) -> None:
        """Without a change all work is skipped, the run is a success, there is no cluster."""
        clusters = orchard.clusters_created()

        run = airflow.trigger(INGESTION, {})

        assert run.state == "success"
        assert run.tasks("skipped") == set(run.states) - {"watcher"}
        assert orchard.clusters_created() == clusters

    def test_c_deletions_need_no_cluster(self, orchard: CloudBatches, airflow: AirflowRuns) -> None:
        """Two images gone: their rows go, the run says so, and no cluster is created."""
        before, clusters = orchard.versions("features"), orchard.clusters_created()
        gone = sorted(before)[:2]
        for key, _ in gone:
            (orchard.images / key.removeprefix("fruits/")).unlink()

        run = airflow.trigger(INGESTION, {})

        assert run.state == "success", run.states
        assert orchard.versions("features") == before - set(gone)
        assert orchard.versions("components") == before - set(gone)
        assert orchard.clusters_created() == clusters
        row = reported(orchard, run)
        assert (row["outcome"], row["deleted"], row["features_removed"]) == ("success", 2, 2)
        assert row["cluster_id"] is None

    def test_d_a_failed_step_fails_the_run_and_leaves_no_cluster(
        self, orchard: CloudBatches, failure: Failure
    ) -> None:
        """The step was tried twice; the run says what failed, its cluster ended, no row came."""
        run, row = failure.run, failure.row

        assert run.state == "failed"
        assert run.tasks("failed") == {"featurize", "watcher"}
        assert run.states["terminate_cluster"] == "success"
        assert (row["outcome"], row["failed_tasks"]) == ("failed", "featurize")
        assert (row["added"], row["features"]) == (2, 0)
        assert cluster_state(row["cluster_id"]) == "TERMINATED"
        assert step_names(row["cluster_id"]) == [f"featurize {row['batch']} 1.{n}" for n in (1, 2)]
        assert orchard.versions("features") == failure.before

    def test_e_clearing_what_failed_finishes_the_batch(
        self, orchard: CloudBatches, airflow: AirflowRuns, failure: Failure
    ) -> None:
        """With its cause repaired, the failed run goes on, on a new cluster; no row comes twice."""
        run = airflow.clear(failure.run, failure.row["failed_tasks"])

        assert run.state == "success", run.states
        assert len(orchard.versions("features") - failure.before) == 2
        assert orchard.versions("components") == orchard.versions("features")
        row = reported(orchard, run)
        assert (row["outcome"], row["features"]) == ("success", 2)
        assert row["cluster_id"] != failure.row["cluster_id"]
        assert step_names(row["cluster_id"]) == [
            f"featurize {row['batch']} 2.1",
            f"pca {row['batch']} 2.1",
        ]
        assert cluster_state(row["cluster_id"]) == "TERMINATED"

    def test_f_the_watchdog_ends_what_nobody_wants(
        self, orchard: CloudBatches, airflow: AirflowRuns
    ) -> None:
        """A cluster of ours whose lease is over ends; one without our tag, however, stays."""
        grant_lease(LAKE, Lease("lost", 1, minutes=0.01, worst_case=1, currency="USD"))
        lost, foreign = create_cluster({TOKEN_TAG: "lost"}), create_cluster({"owner": "else"})

        dry = airflow.trigger(WATCHDOG, {"dry_run": True})
        kept = cluster_state(lost)
        run = airflow.trigger(WATCHDOG, {})

        assert (dry.state, run.state) == ("success", "success")
        assert kept in ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
        assert airflow.answer(run, "end_unwanted_clusters")["terminated"] == [lost]
        assert airflow.asset_events(dry) == {}
        (finding,) = airflow.asset_events(run)["fruits_watchdog_findings"]["findings"]
        assert finding["cluster_id"] == lost
        assert cluster_state(lost) in ("TERMINATING", "TERMINATED")
        assert cluster_state(foreign) not in ("TERMINATING", "TERMINATED")

    def test_g_a_backfill_is_one_batch_however_many_days(
        self, orchard: CloudBatches, airflow: AirflowRuns, tmp_path: Path
    ) -> None:
        """Begun together, one day takes all that waits, the others end green without a cluster."""
        before, clusters = orchard.versions("features"), orchard.clusters_created()
        draw_samples(tmp_path, labels=1, images=22)
        for image in sorted(tmp_path.rglob("*2[01]_*.jpg")):
            orchard.add(image, f"Late Fruit/{image.name}")
        today = datetime.now(UTC).replace(hour=0, minute=0)

        runs = airflow.backfill(INGESTION, today - timedelta(days=4), today - timedelta(days=1))

        assert [run.state for run in runs] == ["success"] * 3
        (worked,) = (run for run in runs if run.states["sense_changes"] == "success")
        for run in runs:
            assert run is worked or run.tasks("skipped") == set(run.states) - {"watcher"}
        assert worked.tasks("success") == set(worked.states)
        assert orchard.clusters_created() == clusters + 1
        assert len(orchard.versions("features") - before) == 2
        row = reported(orchard, worked)
        assert (row["outcome"], row["features"]) == ("success", 2)
        assert row["run_after"] < today

    def test_h_the_switch_tells_and_refuses(
        self, orchard: CloudBatches, airflow: AirflowRuns
    ) -> None:
        """Without a name it lists the feature models; a name that there is not fails at once."""
        told = airflow.trigger(SWITCH, {})
        wrong = airflow.trigger(SWITCH, {"feature_model": "ResNet50-224-bilinear-v2-0123456789ab"})

        (model,) = airflow.answer(told, "switch_model")["feature_models"]
        assert (told.state, wrong.state) == ("success", "failed")
        assert (model["current"], model["images"]) == (True, len(orchard.versions("features")))
        assert (model["without_features"], model["without_components"]) == (0, 0)

    def test_i_the_stacks_roles_allow_every_call(self, cloud: RecordedCloud) -> None:
        """What Airflow and the nodes asked of S3 and EMR until here, IAM would have let them."""
        emr = boto3.client("emr")

        @cache
        def tags_of(cluster_id: str) -> dict[str, str]:
            tags = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Tags"]
            return {tag["Key"]: tag["Value"] for tag in tags}

        asked = {seen.operation for seen in cloud.requests.seen}
        for seen in cloud.requests.seen:
            for cluster_id in re.findall(r"j-\w+", seen.given):
                tags_of(cluster_id)
        with empty_account():
            stack = make_stack(AirflowCode="code/0123.tar.gz")
            calls = {
                "AirflowRole": list(airflow_calls(stack, cloud, tags_of)),
                "NodeRole": list(node_calls(stack, cloud)),
            }
            refused = [
                (role, call)
                for role, its in calls.items()
                for call in its
                if stack.answer(role, call) != "Allowed"
            ]

        assert asked >= {"RunJobFlow", "AddJobFlowSteps", "TerminateJobFlows", "ListInstances"}
        assert all(len(its) > 20 for its in calls.values())
        assert refused == []


def add_two_images(orchard: CloudBatches, folder: Path) -> None:
    """Add two new images of a new label."""
    draw_samples(folder, labels=1, images=20)
    for image in sorted(folder.rglob("1[78]_*.jpg")):
        orchard.add(image, f"New Fruit/{image.name}")


def installed(orchard: CloudBatches, cluster_id: str) -> list[str]:
    """Return what install_python_env.sh said on each of the cluster's nodes."""
    logs = orchard.cloud.storage.folder / "fruits-lake" / "logs" / cluster_id / "node"
    found = logs.glob("*/bootstrap-actions/2/stdout.gz")
    return [gzip.decompress(log.read_bytes()).decode() for log in found]


def cluster_state(cluster_id: str) -> str:
    """Return the cluster's state."""
    cluster = boto3.client("emr").describe_cluster(ClusterId=cluster_id)["Cluster"]
    return str(cluster["Status"]["State"])


def step_names(cluster_id: str) -> list[str]:
    """Return the names of the cluster's steps, the first one first."""
    steps = boto3.client("emr").list_steps(ClusterId=cluster_id)["Steps"]
    return [step["Name"] for step in reversed(steps)]


def create_cluster(tags: dict[str, str]) -> str:
    """Create a small cluster with *tags*, which nobody waits for, and return its id."""
    named = [{"Key": key, "Value": value} for key, value in tags.items()]
    asked = request("else", Name="somebody's", Tags=named)
    return str(boto3.client("emr").run_job_flow(**asked)["JobFlowId"])
