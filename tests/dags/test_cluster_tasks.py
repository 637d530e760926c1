"""The tasks that create a cluster and wait for it, against a real EMR and S3."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError

from fruits.batches import batch_id
from fruits.claims import ClaimLostError
from fruits.leases import end_lease, read_lease
from fruits.ledger import Entry, entry_uri, settle
from fruits.ledger import reserve as enter
from fruits.lifecycle import ClusterFailedError, find_clusters, terminate_cluster
from fruits.manifests import GoneManifestError
from fruits.objects import read_json, storage_time, write_json
from fruits.reports import RunFacts, run_row
from fruits.settings import Settings
from fruits.steps import StagedJobs
from local_cloud.clients import s3_variables
from local_cloud.cloud import LocalCloud
from local_cloud.emr.server import EmrEndpoint
from tests.dags.task_support import LAKE, context, create, reserve
from tests.fruits.emr_support import POLL, REGION, calls, cluster_state, spoiling, until

pytestmark = pytest.mark.usefixtures("outside_of_airflow")


def await_ready(
    reserved: dict[str, Any], cluster_id: str, first_look: datetime | None = None
) -> Any:
    """Run await_cluster; with *first_look*, by a worker's clock, it is one of its later looks."""
    from fruits.sensors import ClusterSensor

    task = ClusterSensor(
        task_id="await_cluster",
        job_flow_id=cluster_id,
        reserved=reserved,
        poke_interval=POLL,
        region_name=REGION,
        mode="reschedule" if first_look else "poke",
    )
    given = context()
    given["ti"].first_look = first_look
    return task.execute(given)  # type: ignore[arg-type, func-returns-value]


def sleeping(cloud: LocalCloud, seconds: int) -> list[dict[str, Any]]:
    """Return bootstrap actions that keep a cluster from being ready."""
    script = cloud.storage.folder / "fruits-lake" / "sleep.sh"
    script.write_text(f"#!/bin/sh\nsleep {seconds}\n")
    action = {"Path": "s3://fruits-lake/sleep.sh"}
    return [{"Name": "sleeps", "ScriptBootstrapAction": action}]


class TestCreateCluster:
    """One token, one cluster, whatever happens to an answer."""

    def test_a_lost_answer_is_made_good_at_once(
        self, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RunJobFlow is sent once, and the cluster whose id got lost is the task's answer."""
        reserved, given = reserve("lost-in-task"), context()
        with spoiling(cloud.emr.endpoint_url, lose={"RunJobFlow": 9}) as spoiler:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", spoiler.url)
            cluster_id = create(reserved, given)

        assert spoiler.received["RunJobFlow"] == 1
        assert calls(cloud, "RunJobFlow", "'fruits lost-in-task'") == 1
        links = given["ti"].links
        assert links["_link_ClusterLink"].endswith(f"region={REGION}#/clusterDetails/{cluster_id}")
        assert links["_link_LogsLink"].endswith(f"&prefix=logs/{cluster_id}/")

    def test_throttling_after_the_creation_makes_no_second_cluster(
        self, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The provider's operator fails here, and its retry creates again; ours has its cluster."""
        reserved = reserve("throttled")
        with spoiling(cloud.emr.endpoint_url, throttle={"DescribeCluster": 2}) as spoiler:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", spoiler.url)
            first = create(reserved)

            assert create(reserved) == first
        assert calls(cloud, "RunJobFlow", "'fruits throttled'") == 1

    def test_a_request_that_was_never_taken_fails_and_is_not_repeated(
        self, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that closes the connection gets RunJobFlow exactly once; Airflow retries."""
        reserved = reserve("swallowed")
        with spoiling(cloud.emr.endpoint_url, swallow={"RunJobFlow": 9}) as spoiler:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", spoiler.url)
            with pytest.raises(BotoCoreError):
                create(reserved)

        assert spoiler.received["RunJobFlow"] == 1
        assert spoiler.received["ListClusters"] >= 2

    def test_a_task_that_wakes_up_after_the_teardown_creates_nothing(
        self, cloud: LocalCloud
    ) -> None:
        """The teardown has ended the lease: nobody would end a cluster that came now."""
        reserved = reserve("late")
        end_lease(LAKE, "late")

        with pytest.raises(ClaimLostError, match="teardown"):
            create(reserved)
        assert calls(cloud, "RunJobFlow", "'fruits late'") == 0

    def test_a_teardown_that_overtakes_the_creation_leaves_no_cluster(
        self, cloud: LocalCloud, emr: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The run was marked while RunJobFlow was on its way: who created the cluster ends it.

        Its teardown found no cluster and settled for nothing: now there is one to be paid.
        """
        reserved = reserve("overtaken")
        entry = Entry("overtaken", 1, 1.0, "USD", storage_time(LAKE))
        enter(LAKE, entry, month_cap=100)

        def tear_down() -> None:
            end_lease(LAKE, "overtaken")
            settle(LAKE, entry, [], "terminate_cluster", entry.reserved_at)

        teardown = {"RunJobFlow": tear_down}
        with spoiling(cloud.emr.endpoint_url, meanwhile=teardown) as spoiler:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", spoiler.url)
            with pytest.raises(ClaimLostError):
                create(reserved)

        assert calls(cloud, "RunJobFlow", "'fruits overtaken'") == 1
        assert find_clusters(emr, "overtaken", live=True) == []
        assert read_json(entry_uri(LAKE, entry))["spent"] is None

    def test_a_task_of_an_older_generation_creates_nothing(self, cloud: LocalCloud) -> None:
        """Its run was cleared: the promise that it was given is charged, but not valid any more."""
        old = reserve("superseded", 1)
        reserve("superseded", 2)

        with pytest.raises(ClaimLostError, match="generation 2"):
            create(old)
        assert calls(cloud, "RunJobFlow", "'fruits superseded'") == 0

    def test_a_promise_that_was_settled_meanwhile_makes_no_cluster(self, cloud: LocalCloud) -> None:
        """The run stood still for longer than its lease: what it creates now nobody would pay."""
        reserved = reserve("stalled")
        entry = Entry("stalled", 1, 1.0, "USD", storage_time(LAKE))
        enter(LAKE, entry, month_cap=100)
        settle(LAKE, entry, [], "fruits_cost_watchdog", entry.reserved_at)

        with pytest.raises(ClaimLostError, match="settled"):
            create(reserved)
        assert calls(cloud, "RunJobFlow", "'fruits stalled'") == 0

    def test_a_promise_pays_for_one_cluster(self, cloud: LocalCloud, emr: Any) -> None:
        """Its cluster came and ended while nobody knew of it: a second one needs a promise."""
        reserved = reserve("unheard")
        terminate_cluster(emr, create(reserved), timeout=30, poll=POLL)

        with pytest.raises(ClaimLostError, match="was created for this promise, and has ended"):
            create(reserved)
        assert calls(cloud, "RunJobFlow", "'fruits unheard'") == 1
        assert create(reserve("unheard", 2))

    def test_a_setup_that_was_marked_success_by_hand_is_named(self, cloud: LocalCloud) -> None:
        """Without a promise there is no cluster, and the error says what to clear."""
        with pytest.raises(ClaimLostError, match="clear reserve_cluster"):
            create(None)  # type: ignore[arg-type]


class TestReserveCluster:
    """It promises what the tasks after it need."""

    @pytest.mark.parametrize(("state", "workers"), [(None, 2), ("failed", 2), ("success", 1)])
    def test_a_cleared_run_is_promised_what_is_left(
        self,
        cloud: LocalCloud,
        ingestion: Any,
        monkeypatch: pytest.MonkeyPatch,
        state: str | None,
        workers: int,
    ) -> None:
        """Cleared from pca on, it has its features: one worker is enough.

        That says nothing of featurize, whose time in the row of `runs` is of an earlier cluster.
        """
        monkeypatch.setenv("FRUITS_WORKERS", "2")
        monkeypatch.setenv("FRUITS_PRICES_MAX_AGE_DAYS", "36500")
        model = "MobileNetV2-224-bilinear-v2-715706dbcc4b"
        many = {"feature_model": model, "counts": {"added": 3_000_000}, "added_bytes": 0}
        found = {"batch": f"cleared-{state}", "featurize": True, "reduce": True} | many
        staged = {field.name: f"{LAKE}/jobs/{field.name}" for field in fields(StagedJobs)}
        write_json(f"{LAKE}/manifests/{found['batch']}/manifest.json", {})

        answer = ingestion.get_task("reserve_cluster").python_callable(
            found, staged, {}, Run({"featurize": state})
        )

        fleet = answer["request"]["Instances"]["InstanceFleets"][1]
        assert fleet["TargetOnDemandCapacity"] == workers
        now = datetime.now(UTC)
        row = run_row(RunFacts("b", "r", now, {}, {"reserve_cluster": answer}), Settings(), now)
        assert row["workers"] == (None if state == "success" else workers)

    def test_nothing_is_promised_for_a_list_that_is_gone(
        self, cloud: LocalCloud, ingestion: Any
    ) -> None:
        """Its featurize could only fail, on a cluster: a run of weeks ago is cleared from above."""
        found = {"batch": "cleared-late"}

        with pytest.raises(GoneManifestError, match="Clear sense_changes"):
            ingestion.get_task("reserve_cluster").python_callable(found, {}, {}, Run({}))
        assert read_lease(LAKE, "cleared-late") is None


class TestWatcher:
    """It ends what no teardown ends."""

    @pytest.mark.parametrize(
        ("teardown", "ends"), [("skipped", True), ("upstream_failed", True), ("success", False)]
    )
    def test_a_cleared_run_that_comes_to_no_cluster_ends_the_one_it_had(
        self, cloud: LocalCloud, emr: Any, ingestion: Any, teardown: str, ends: bool
    ) -> None:
        """Nothing is found any more, or no money is left: Airflow skips the teardown then."""
        then = datetime(2026, 11, 21, 3, tzinfo=UTC)
        run_id = f"cleared-{teardown}"
        token = batch_id(then, run_id, LAKE)
        create(reserve(token))
        run = Run({"sense_changes": "success", "terminate_cluster": teardown}, run_id=run_id)

        ingestion.get_task("watcher").python_callable(
            run, SimpleNamespace(run_after=then, run_id=run_id, start_date=then)
        )

        assert (find_clusters(emr, token, live=True) == []) == ends
        lease = read_lease(LAKE, token)
        assert lease
        assert lease.ended == ends


@dataclass(frozen=True)
class Run:
    """What a task instance says of its run: the *states* of its tasks."""

    states: dict[str, str | None]
    dag_id: str = "fruits_ingestion"
    run_id: str = "manual"

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return the states by run."""
        return dict.fromkeys(run_ids, self.states)

    def xcom_pull(self, task_ids: str) -> None:
        """Return what a task answered: nothing."""


class TestAwaitCluster:
    """It waits for its own cluster, and for no other."""

    def test_duplicates_end_while_it_waits(self, emr: Any) -> None:
        """Whichever of two came first, the one that the run knows stays alone."""
        reserved = reserve("doubled")
        first = emr.run_job_flow(**reserved["request"])["JobFlowId"]
        kept = emr.run_job_flow(**reserved["request"])["JobFlowId"]

        await_ready(reserved, kept)

        assert find_clusters(emr, "doubled", live=True) == [kept]
        until(lambda: cluster_state(emr, first) == "TERMINATED")

    def test_a_cluster_that_ended_is_no_matter_for_a_retry(self, emr: Any) -> None:
        """The error has the reason, and it is one that the retry policy stops at."""
        reserved = reserve("ended")
        cluster_id = create(reserved)
        terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        with pytest.raises(ClusterFailedError) as failure:
            await_ready(reserved, cluster_id)

        assert not failure.value.transient

    def test_a_cluster_that_is_late_fails_the_wait(
        self, cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By EMR's clock: a worker's that seems to have waited for days ends nothing."""
        from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSensorTimeout

        passed = [0.0]
        services = s3_variables(cloud.storage.endpoint_url)
        folder, buckets = tmp_path / "emr", cloud.storage.folder
        with EmrEndpoint(folder, buckets, services, clock=lambda: time.time() + passed[0]) as emr:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", emr.endpoint_url)
            reserved = reserve("never-ready")
            reserved["request"]["BootstrapActions"] = sleeping(cloud, seconds=300)
            cluster_id = create(reserved)
            days_ago = datetime.now(UTC) - timedelta(days=3)

            with pytest.raises(AirflowRescheduleException):
                await_ready(reserved, cluster_id, first_look=days_ago)
            passed[0] = 31 * 60
            with pytest.raises(AirflowSensorTimeout, match="30 minutes after its creation"):
                await_ready(reserved, cluster_id, first_look=datetime.now(UTC))

    def test_waiting_renews_the_lease(self, emr: Any) -> None:
        """Each look writes it anew: its age is that of the last look."""
        reserved = reserve("wanted")
        cluster_id = create(reserved)
        until(lambda: _age("wanted") >= 3)
        began = time.monotonic()

        await_ready(reserved, cluster_id)

        # S3 tells whole seconds. Not renewed, the lease would be older than this by two at least.
        assert _age("wanted") < time.monotonic() - began + 1


def _age(token: str) -> float:
    lease = read_lease(LAKE, token)
    assert lease
    return lease.age.total_seconds()
