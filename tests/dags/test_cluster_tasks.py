"""The tasks that create a cluster, wait for it and run its steps, against a real EMR and S3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from fruits.claims import ClaimLostError
from fruits.leases import Lease, end_lease, grant_lease, read_lease
from fruits.lifecycle import (
    ClusterFailedError,
    create_cluster,
    emr_client,
    find_clusters,
    terminate_cluster,
)
from fruits.step_runs import SeenStep, StepFailedError, keep_alive, seen_steps
from local_cloud.cloud import LocalCloud
from local_cloud.emr.server import EmrEndpoint
from tests.fruits.emr_support import (
    POLL,
    REGION,
    calls,
    cloud_in_environment,
    cluster_state,
    request,
    spoiling,
    step,
    step_state,
    until,
)

LAKE = "s3://fruits-lake"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run one S3 and one EMR for the module; their clients in this process find them by env."""
    with cloud_in_environment(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def emr(cloud: LocalCloud) -> Any:
    """Return the client that the library uses."""
    return emr_client(REGION)


@pytest.fixture(autouse=True)
def outside_of_airflow(airflow_home: Path) -> Iterator[None]:
    """Let a test call execute itself, as Airflow's task runner does."""
    from airflow.sdk.bases.operator import ExecutorSafeguard

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExecutorSafeguard, "test_mode", True)
        yield


class TaskInstance:
    """What a task tells of itself beside its answer: the parameters of its links."""

    def __init__(self) -> None:
        self.links: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.links[key] = value


def context(**params: Any) -> dict[str, Any]:
    """Return what a task of a run with *params* is given."""
    return {"params": params, "ti": TaskInstance()}


def reserve(token: str, generation: int = 1, **changes: Any) -> dict[str, Any]:
    """Grant the lease as reserve_cluster does, and return what it returns."""
    grant_lease(LAKE, Lease(token, generation, 30, 1.0, "USD"))
    return {"token": token, "generation": generation, "request": request(token, **changes)}


def create(reserved: dict[str, Any], given: dict[str, Any] | None = None) -> str:
    """Run create_cluster."""
    from fruits.operators import CreateClusterOperator

    task = CreateClusterOperator(task_id="create_cluster", reserved=reserved, region_name=REGION)
    return task.execute(given or context())  # type: ignore[arg-type]


def await_ready(reserved: dict[str, Any], cluster_id: str) -> Any:
    """Run await_cluster."""
    from fruits.sensors import ClusterSensor

    waiting = {"poke_interval": POLL, "timeout": 30, "region_name": REGION}
    task = ClusterSensor(
        task_id="await_cluster", job_flow_id=cluster_id, reserved=reserved, **waiting
    )
    return task.execute(context())  # type: ignore[arg-type, func-returns-value]


def run_step(
    reserved: dict[str, Any],
    cluster_id: str,
    command: str = "true",
    *,
    name: str = "featurize",
    last: bool = False,
    **params: Any,
) -> dict[str, str]:
    """Run a waiting task whose step is a shell *command*."""
    from fruits.sensors import StepSensor

    def build(settings: Any, staged: Any, attempt: Any, model: str) -> dict[str, Any]:
        return step(command, f"{name} {attempt.batch.id} {attempt.name}")

    task = StepSensor(
        task_id=name,
        step=name,
        wanted_by="wanted",
        build_step=build,
        found={"wanted": True, "batch": reserved["token"], "feature_model": "model"},
        staged={},
        reserved=reserved,
        last=last,
        job_flow_id=cluster_id,
        poke_interval=POLL,
        region_name=REGION,
    )
    return task.execute(context(**params))  # type: ignore[arg-type]


def tries(emr: Any, cluster_id: str, token: str, name: str = "featurize") -> list[SeenStep]:
    """Return the tries at the step, the first one first."""
    seen = seen_steps(emr, cluster_id, name, token)
    return sorted(seen, key=lambda one: (one.generation, one.number))


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
        """The run was marked while RunJobFlow was on its way: who created the cluster ends it."""
        reserved = reserve("overtaken")
        teardown = {"RunJobFlow": lambda: end_lease(LAKE, "overtaken")}
        with spoiling(cloud.emr.endpoint_url, meanwhile=teardown) as spoiler:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", spoiler.url)
            with pytest.raises(ClaimLostError):
                create(reserved)

        assert calls(cloud, "RunJobFlow", "'fruits overtaken'") == 1
        assert find_clusters(emr, "overtaken", live=True) == []

    def test_a_task_of_an_older_generation_creates_nothing(self, cloud: LocalCloud) -> None:
        """Its run was cleared: the promise that it was given is charged, but not valid any more."""
        old = reserve("superseded", 1)
        reserve("superseded", 2)

        with pytest.raises(ClaimLostError, match="generation 2"):
            create(old)
        assert calls(cloud, "RunJobFlow", "'fruits superseded'") == 0

    def test_a_setup_that_was_marked_success_by_hand_is_named(self, cloud: LocalCloud) -> None:
        """Without a promise there is no cluster, and the error says what to clear."""
        with pytest.raises(ClaimLostError, match="clear reserve_cluster"):
            create(None)  # type: ignore[arg-type]


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

    def test_waiting_renews_the_lease(self, emr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each look writes it anew: its age is that of the last look."""
        reserved = reserve("wanted")
        cluster_id = create(reserved)
        until(lambda: _age("wanted") >= 3)

        await_ready(reserved, cluster_id)

        assert _age("wanted") < 3


class TestStep:
    """One try counts, and no other runs beside it."""

    @pytest.fixture
    def ready(self, cloud: LocalCloud) -> Callable[[str], tuple[dict[str, Any], str]]:
        """Return a function that reserves and creates a cluster for a token."""

        def make(token: str) -> tuple[dict[str, Any], str]:
            reserved = reserve(token)
            return reserved, create_cluster(REGION, reserved["request"], token)

        return make

    def test_a_completed_step_is_adopted(self, emr: Any, ready: Any) -> None:
        """A retry after a lost state finds the work done."""
        reserved, cluster_id = ready("done")
        first = run_step(reserved, cluster_id)

        assert run_step(reserved, cluster_id) == first
        assert first["attempt"] == "1.1"
        assert len(tries(emr, cluster_id, "done")) == 1

    def test_a_live_step_is_adopted(self, emr: Any, ready: Any) -> None:
        """The task that added it was killed; its retry waits for the same step."""
        reserved, cluster_id = ready("alive")
        added = emr.add_job_flow_steps(
            JobFlowId=cluster_id, Steps=[step("sleep 0.5", "featurize alive 1.1")]
        )["StepIds"]

        assert run_step(reserved, cluster_id)["step_id"] == added[0]

    def test_a_failed_step_has_one_more_try_on_the_same_cluster(self, emr: Any, ready: Any) -> None:
        """The first failure may pass, the second is final; each try has folders of its own."""
        reserved, cluster_id = ready("twice-failed")

        failures = [_failure(reserved, cluster_id, "exit 1") for _ in range(3)]

        assert [failure.transient for failure in failures] == [True, False, False]
        seen = tries(emr, cluster_id, "twice-failed")
        assert [(one.generation, one.number) for one in seen] == [(1, 1), (1, 2)]
        assert "same cluster" in str(failures[0])
        assert "clear this task together with its downstream tasks" in str(failures[1])

    def test_the_second_try_can_succeed(self, emr: Any, ready: Any) -> None:
        """Its attempt is the one that is committed."""
        reserved, cluster_id = ready("recovered")
        _failure(reserved, cluster_id, "exit 1")

        assert run_step(reserved, cluster_id, "true")["attempt"] == "1.2"

    def test_the_last_step_takes_its_cluster_with_it(self, emr: Any, ready: Any) -> None:
        """Failed or not, nothing comes after it: the cluster ends, and only a clear helps."""
        reserved, cluster_id = ready("last-step")

        failure = _failure(reserved, cluster_id, "exit 1", name="pca", last=True)

        assert not failure.transient
        until(lambda: cluster_state(emr, cluster_id).startswith("TERMINATED"))

    def test_a_new_generation_leaves_no_old_step_running(self, emr: Any, ready: Any) -> None:
        """The run was cleared while its step ran: the old step ends before the new one begins."""
        _, cluster_id = ready("cleared")
        old = emr.add_job_flow_steps(
            JobFlowId=cluster_id, Steps=[step("sleep 300", "featurize cleared 1.1")]
        )["StepIds"][0]
        until(lambda: step_state(emr, cluster_id, old) == "RUNNING")

        answer = run_step(reserve("cleared", 2), cluster_id)

        assert answer["attempt"] == "2.1"
        assert step_state(emr, cluster_id, old) == "CANCELLED"

    def test_a_last_step_that_is_cleared_finds_its_cluster_alive(
        self, emr: Any, ready: Any
    ) -> None:
        """The cluster was told to end after the old one, but gets the new one before it ends."""
        _, cluster_id = ready("cleared-last")
        old = emr.add_job_flow_steps(
            JobFlowId=cluster_id, Steps=[step("sleep 300", "pca cleared-last 1.1")]
        )["StepIds"][0]
        until(lambda: step_state(emr, cluster_id, old) == "RUNNING")
        keep_alive(emr, cluster_id, alive=False)

        answer = run_step(reserve("cleared-last", 2), cluster_id, name="pca", last=True)

        assert answer["attempt"] == "2.1"
        assert step_state(emr, cluster_id, old) == "CANCELLED"
        until(lambda: cluster_state(emr, cluster_id).startswith("TERMINATED"))

    def test_a_step_that_outlives_the_cap_is_cancelled(
        self, cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The cap counts from the cluster's creation, by EMR's clock; an adopted step ends too."""
        from airflow.sdk.exceptions import AirflowSensorTimeout

        passed = [0.0]
        services = {"AWS_ENDPOINT_URL_S3": cloud.storage.endpoint_url}
        folder, buckets = tmp_path / "emr", cloud.storage.folder
        with EmrEndpoint(
            folder, buckets, services, clock=lambda: time.time() + passed[0]
        ) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", server.endpoint_url)
            reserved, emr = reserve("hanging"), emr_client(REGION)
            cluster_id = create(reserved)
            step_id = emr.add_job_flow_steps(
                JobFlowId=cluster_id,
                Steps=[step("sleep 300", "featurize hanging 1.1")],  # type: ignore[list-item]
            )["StepIds"][0]
            until(lambda: step_state(emr, cluster_id, step_id) == "RUNNING")
            passed[0] = 121

            with pytest.raises(AirflowSensorTimeout, match="cap of 2 minutes"):
                run_step(reserved, cluster_id, cap_minutes=2, idle_minutes=1)

            until(lambda: step_state(emr, cluster_id, step_id) == "CANCELLED")

    def test_no_step_is_added_to_a_cluster_that_ends(self, emr: Any, ready: Any) -> None:
        """It would never run; a retry of the task would find the same."""
        reserved, cluster_id = ready("ending")
        terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        with pytest.raises(ClusterFailedError):
            run_step(reserved, cluster_id)

    def test_a_task_of_an_older_generation_adds_nothing(self, emr: Any, ready: Any) -> None:
        """It sees its step cancelled by the new generation, and must not try it again."""
        old, cluster_id = ready("woken")
        reserve("woken", 2)

        with pytest.raises(ClaimLostError):
            run_step(old, cluster_id)
        assert tries(emr, cluster_id, "woken") == []

    def test_an_s3_that_does_not_answer_once_ends_no_wait(
        self, emr: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lease lasts for several looks: one that cannot renew it is no failure."""
        from fruits import claims

        reserved, cluster_id = ready("deaf")
        answers = iter([None, ClientError({"Error": {"Code": "SlowDown"}}, "PutObject")])
        real = claims.renew_claim

        def renew(lake: str, its: Any) -> None:
            if error := next(answers, None):
                raise error
            real(lake, its)

        monkeypatch.setattr(claims, "renew_claim", renew)

        assert run_step(reserved, cluster_id, "sleep 0.3")["attempt"] == "1.1"


def _failure(
    reserved: dict[str, Any], cluster_id: str, command: str, **how: Any
) -> StepFailedError:
    with pytest.raises(StepFailedError) as failure:
        run_step(reserved, cluster_id, command, **how)
    return failure.value


def _age(token: str) -> float:
    lease = read_lease(LAKE, token)
    assert lease
    return lease.age.total_seconds()
