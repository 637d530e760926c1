"""The task that runs a step: one try counts, and no other runs beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from fruits import ingestion
from fruits.claims import ClaimLostError
from fruits.lake import ensure_tables, open_catalog
from fruits.lifecycle import ClusterFailedError, create_cluster, emr_client, terminate_cluster
from fruits.objects import write_json
from fruits.step_runs import SeenStep, StepFailedError, keep_alive, seen_steps
from local_cloud.cloud import LocalCloud
from local_cloud.emr.server import EmrEndpoint
from tests.chaos.faults import FaultProxy, throttling
from tests.dags.task_support import LAKE, context, create, reserve
from tests.fruits.emr_support import POLL, REGION, cluster_state, step, step_state, until

pytestmark = pytest.mark.usefixtures("outside_of_airflow")


def run_step(
    reserved: dict[str, Any],
    cluster_id: str,
    command: str = "true",
    *,
    name: str = "featurize",
    last: bool = False,
    first_look: datetime | None = None,
    build_step: Callable[..., dict[str, Any]] | None = None,
    **params: Any,
) -> dict[str, str]:
    """Run a waiting task whose step is a shell *command*, or what *build_step* returns.

    With *first_look*, by the clock of a worker, this is one of its later looks, each of which is a
    process of its own.
    """
    from fruits.sensors import StepSensor

    def build(settings: Any, staged: Any, attempt: Any, model: str) -> dict[str, Any]:
        return step(command, f"{name} {attempt.batch.id} {attempt.name}")

    task = StepSensor(
        task_id=name,
        step=name,
        wanted_by="wanted",
        build_step=build_step or build,
        found={"wanted": True, "batch": reserved["token"], "feature_model": "model"},
        staged={},
        reserved=reserved,
        last=last,
        job_flow_id=cluster_id,
        poke_interval=POLL,
        region_name=REGION,
        mode="reschedule" if first_look else "poke",
    )
    given = context(**params) | {"task_reschedule_count": 1 if first_look else 0}
    given["ti"].first_look = first_look
    return task.execute(given)  # type: ignore[arg-type]


def added(emr: Any, cluster_id: str, command: str, name: str, state: str = "") -> str:
    """Add a step as an earlier task did, wait until it has the *state*, if any; return its id."""
    request = step(command, name)
    step_id: str = emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=[request])["StepIds"][0]
    until(lambda: not state or step_state(emr, cluster_id, step_id) == state)
    return step_id


def tries(emr: Any, cluster_id: str, token: str) -> list[SeenStep]:
    """Return the tries at the step, the first one first."""
    seen = seen_steps(emr, cluster_id, token)
    return sorted(seen, key=lambda one: (one.generation, one.number))


def _failure(
    reserved: dict[str, Any], cluster_id: str, command: str, **how: Any
) -> StepFailedError:
    with pytest.raises(StepFailedError) as failure:
        run_step(reserved, cluster_id, command, **how)
    return failure.value


@pytest.fixture
def ready(cloud: LocalCloud) -> Callable[[str], tuple[dict[str, Any], str]]:
    """Return a function that reserves and creates a cluster for a token."""

    def make(token: str) -> tuple[dict[str, Any], str]:
        reserved = reserve(token)
        return reserved, create_cluster(REGION, reserved["request"], token)

    return make


def test_a_completed_step_is_adopted(emr: Any, ready: Any) -> None:
    """A retry after a lost state finds the work done."""
    reserved, cluster_id = ready("done")
    first = run_step(reserved, cluster_id)

    assert run_step(reserved, cluster_id) == first
    assert first["attempt"] == "1.1"
    assert len(tries(emr, cluster_id, "done")) == 1


def test_a_live_step_is_adopted(emr: Any, ready: Any) -> None:
    """The task that added it was killed; its retry waits for the same step."""
    reserved, cluster_id = ready("alive")
    live = added(emr, cluster_id, "sleep 0.5", "featurize alive 1.1")

    assert run_step(reserved, cluster_id)["step_id"] == live


def test_a_failed_step_has_one_more_try_on_the_same_cluster(emr: Any, ready: Any) -> None:
    """The first failure may pass, the second is final; each try has folders of its own."""
    reserved, cluster_id = ready("twice-failed")

    failures = [_failure(reserved, cluster_id, "exit 1") for _ in range(3)]

    assert [failure.transient for failure in failures] == [True, False, False]
    seen = tries(emr, cluster_id, "twice-failed")
    assert [(one.generation, one.number) for one in seen] == [(1, 1), (1, 2)]
    assert "same cluster" in str(failures[0])
    assert "clear this task together with its downstream tasks" in str(failures[1])


def test_a_failure_that_lasts_has_no_second_try(emr: Any, ready: Any) -> None:
    """The step says itself that it would fail again: nobody pays for that."""
    reserved, cluster_id = ready("refused")
    told = {"step": "featurize", "cause": "Archived: a.jpg", "lasting": True}
    write_json(f"{LAKE}/attempts/refused/featurize-1.1/failure.json", told)

    failure = _failure(reserved, cluster_id, "exit 1")

    assert not failure.transient
    assert "Archived: a.jpg" in str(failure)
    assert "clear this task together with its downstream tasks" in str(failure)


def test_the_second_try_can_succeed(emr: Any, ready: Any) -> None:
    """Its attempt is the one that is committed."""
    reserved, cluster_id = ready("recovered")
    _failure(reserved, cluster_id, "exit 1")

    assert run_step(reserved, cluster_id, "true")["attempt"] == "1.2"


def test_a_step_that_fails_between_two_looks_fails_the_task(emr: Any, ready: Any) -> None:
    """Where each look is a process of its own, too: the second try is the task's retry's."""
    reserved, cluster_id = ready("between")
    failed = added(emr, cluster_id, "exit 1", "featurize between 1.1", "FAILED")

    failure = _failure(reserved, cluster_id, "true", first_look=datetime.now(UTC))

    assert (failure.step_id, failure.transient) == (failed, True)
    assert run_step(reserved, cluster_id)["attempt"] == "1.2"


def test_the_last_step_takes_its_cluster_with_it(emr: Any, ready: Any) -> None:
    """Failed or not, nothing comes after it: the cluster ends, and only a clear helps."""
    reserved, cluster_id = ready("last-step")

    failure = _failure(reserved, cluster_id, "exit 1", name="pca", last=True)

    assert not failure.transient
    until(lambda: cluster_state(emr, cluster_id).startswith("TERMINATED"))


def test_without_features_there_is_nothing_to_reduce(emr: Any, ready: Any) -> None:
    """Of a lake whose photographs are all in quarantine PCA is skipped: a broken one is a row."""
    from airflow.sdk.exceptions import AirflowSkipException

    reserved, cluster_id = ready("all-broken")
    ensure_tables(open_catalog())

    with pytest.raises(AirflowSkipException, match="Too few images have features of model"):
        run_step(reserved, cluster_id, name="pca", last=True, build_step=ingestion.pca_request)

    assert not tries(emr, cluster_id, "all-broken")


def test_a_new_generation_leaves_no_old_step_running(emr: Any, ready: Any) -> None:
    """The run was cleared while its step ran: the old step ends before the new one begins."""
    _, cluster_id = ready("cleared")
    old = added(emr, cluster_id, "sleep 300", "featurize cleared 1.1", "RUNNING")

    answer = run_step(reserve("cleared", 2), cluster_id)

    assert answer["attempt"] == "2.1"
    assert step_state(emr, cluster_id, old) == "CANCELLED"


def test_a_new_generation_leaves_no_later_step_running(emr: Any, ready: Any) -> None:
    """Cleared from featurize on while pca ran, behind which the new featurize would wait."""
    _, cluster_id = ready("cleared-back")
    added(emr, cluster_id, "true", "featurize cleared-back 1.1", "COMPLETED")
    old = added(emr, cluster_id, "sleep 300", "pca cleared-back 1.1", "RUNNING")

    answer = run_step(reserve("cleared-back", 2), cluster_id)

    assert answer["attempt"] == "2.1"
    until(lambda: step_state(emr, cluster_id, old) == "CANCELLED")


def test_a_last_step_that_is_cleared_finds_its_cluster_alive(emr: Any, ready: Any) -> None:
    """The cluster was told to end after the old one, but gets the new one before it ends."""
    _, cluster_id = ready("cleared-last")
    old = added(emr, cluster_id, "sleep 300", "pca cleared-last 1.1", "RUNNING")
    keep_alive(emr, cluster_id, alive=False)

    answer = run_step(reserve("cleared-last", 2), cluster_id, name="pca", last=True)

    assert answer["attempt"] == "2.1"
    assert step_state(emr, cluster_id, old) == "CANCELLED"
    until(lambda: cluster_state(emr, cluster_id).startswith("TERMINATED"))


def test_a_step_that_outlives_the_cap_is_cancelled(
    cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cap counts from the cluster's creation, by EMR's clock; an adopted step ends too."""
    from airflow.sdk.exceptions import AirflowSensorTimeout

    monkeypatch.setenv("FRUITS_POLL_SECONDS", "1")
    monkeypatch.setenv("FRUITS_IDLE_MINUTES", "1")
    passed = [0.0]
    services = {"AWS_ENDPOINT_URL_S3": cloud.storage.endpoint_url}
    folder, buckets = tmp_path / "emr", cloud.storage.folder
    with EmrEndpoint(folder, buckets, services, clock=lambda: time.time() + passed[0]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", server.endpoint_url)
        reserved, emr = reserve("hanging"), emr_client(REGION)
        cluster_id = create(reserved)
        step_id = added(emr, cluster_id, "sleep 300", "featurize hanging 1.1", "RUNNING")
        passed[0] = 121

        with pytest.raises(AirflowSensorTimeout, match="cap of 2 minutes"):
            run_step(reserved, cluster_id, cap_minutes=2)

        until(lambda: step_state(emr, cluster_id, step_id) == "CANCELLED")


def test_a_workers_clock_that_jumps_ends_no_wait(emr: Any, ready: Any) -> None:
    """It seems to have waited for longer than the longest cap, and looks again all the same."""
    from airflow.sdk.exceptions import AirflowRescheduleException

    reserved, cluster_id = ready("jumped")
    step_id = added(emr, cluster_id, "sleep 300", "featurize jumped 1.1", "RUNNING")

    with pytest.raises(AirflowRescheduleException):
        run_step(reserved, cluster_id, first_look=datetime.now(UTC) - timedelta(days=3))

    assert step_state(emr, cluster_id, step_id) == "RUNNING"


def test_no_step_is_added_to_a_cluster_that_ends(emr: Any, ready: Any) -> None:
    """It would never run; a retry of the task would find the same."""
    reserved, cluster_id = ready("ending")
    terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

    with pytest.raises(ClusterFailedError):
        run_step(reserved, cluster_id)


def test_a_task_of_an_older_generation_adds_nothing(emr: Any, ready: Any) -> None:
    """It sees its step cancelled by the new generation, and must not try it again."""
    old, cluster_id = ready("woken")
    reserve("woken", 2)

    with pytest.raises(ClaimLostError):
        run_step(old, cluster_id)
    assert tries(emr, cluster_id, "woken") == []


def test_an_s3_that_does_not_answer_ends_no_wait(
    emr: Any, ready: Any, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease lasts for several looks: one that reads and renews nothing is no failure."""
    reserved, cluster_id = ready("deaf")
    step_id = added(emr, cluster_id, "sleep 1", "featurize deaf 1.1")
    impatient = Config(retries={"total_max_attempts": 1})
    with FaultProxy(cloud.storage.endpoint_url) as proxy:
        client = boto3.client("s3", endpoint_url=proxy.url, config=impatient)
        monkeypatch.setattr("fruits.objects.client", lambda _=None: client)
        proxy.set_rules([throttling("s3")])

        assert run_step(reserved, cluster_id) == {"step_id": step_id, "attempt": "1.1"}
        assert proxy.fired >= 2
