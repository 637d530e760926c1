"""A step's life at a real EMR endpoint: added once, adopted, cancelled; and which try counts."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from fruits.lifecycle import WaitTimeoutError, await_cluster, create_cluster, emr_client
from fruits.step_runs import (
    SeenStep,
    StepFailedError,
    StepUnansweredError,
    add_step,
    attempt_of,
    cancel_steps,
    keep_alive,
    newest_try,
    run_step,
    seen_steps,
)
from local_cloud.cloud import LocalCloud
from tests.fruits.emr_support import (
    POLL,
    REGION,
    calls,
    cluster_state,
    request,
    spoiling,
    step,
    step_state,
    until,
)


@pytest.fixture(scope="module")
def waiting(cloud: LocalCloud) -> str:
    """Return the id of a cluster that waits for steps."""
    cluster_id = create_cluster(REGION, request("waiting"), "waiting")
    await_cluster(emr_client(REGION), cluster_id, timeout=30, poll=POLL)
    return cluster_id


class TestSteps:
    """A step runs once, and nobody leaves it alone."""

    def test_a_completed_step_returns_its_id(self, emr: Any, waiting: str) -> None:
        """The progress is asked for at each look."""
        looks: list[None] = []

        step_id = run_step(
            emr,
            waiting,
            step("true", "fine"),
            timeout=30,
            poll=POLL,
            on_poll=lambda: looks.append(None),
        )

        assert step_state(emr, waiting, step_id) == "COMPLETED"
        assert looks

    def test_a_failed_step_says_why_and_where(self, emr: Any, waiting: str) -> None:
        """The step's own explanation comes before EMR's, with the folder of its logs."""
        with pytest.raises(StepFailedError) as failure:
            run_step(
                emr,
                waiting,
                step("exit 1", "failing"),
                timeout=30,
                poll=POLL,
                explain=lambda: "The lemons are sour",
            )

        assert failure.value.reason == "The lemons are sour"
        folder = f"s3://fruits-lake/logs/{waiting}/steps/{failure.value.step_id}/"
        assert failure.value.log_uri == folder

    def test_a_wait_that_gives_up_cancels_the_step(self, emr: Any, waiting: str) -> None:
        """A step that nobody waits for must not run on."""
        with pytest.raises(WaitTimeoutError):
            run_step(emr, waiting, step("sleep 300", "hanging"), timeout=0.5, poll=POLL)

        (hanging,) = (s for s in emr.list_steps(ClusterId=waiting)["Steps"] if "hang" in s["Name"])
        until(lambda: step_state(emr, waiting, hanging["Id"]) == "CANCELLED")

    def test_a_lost_answer_adds_no_second_step(
        self, cloud: LocalCloud, waiting: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step that ran twice would write over files that the first run's commit registered."""
        with spoiling(cloud.emr.endpoint_url, lose={"AddJobFlowSteps": 1}) as spoiler:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", spoiler.url)
            step_id = add_step(emr_client(REGION), waiting, step("true", "once"))
        direct = boto3.client("emr", endpoint_url=cloud.emr.endpoint_url)

        assert direct.describe_step(ClusterId=waiting, StepId=step_id)["Step"]["Name"] == "once"
        assert calls(cloud, "AddJobFlowSteps", "'once'") == 1

    def test_a_step_that_was_not_added_is_an_error(self, emr: Any) -> None:
        """What EMR refuses, and nobody finds, did not happen."""
        with pytest.raises(ClientError, match="j-NONE"):
            add_step(emr, "j-NONE", step("true", "nowhere"))

    def test_what_has_ended_is_cancelled_without_a_word(self, emr: Any, waiting: str) -> None:
        """Who cancels in passing is not stopped by a step that is done, or by there being none."""
        done = run_step(emr, waiting, step("true", "done"), timeout=30, poll=POLL)

        cancel_steps(emr, waiting, done)
        cancel_steps(emr, waiting)

        assert step_state(emr, waiting, done) == "COMPLETED"

    def test_after_the_last_step_the_cluster_ends_itself(self, emr: Any) -> None:
        """Nobody has to be there any more; told again after its end, nothing happens."""
        cluster_id = create_cluster(REGION, request("last"), "last")
        await_cluster(emr, cluster_id, timeout=30, poll=POLL)
        add_step(emr, cluster_id, step("sleep 0.5", "the last"))

        keep_alive(emr, cluster_id, alive=False)
        until(lambda: cluster_state(emr, cluster_id) == "TERMINATED")
        keep_alive(emr, cluster_id, alive=False)

    def test_a_last_step_that_is_waited_for_ends_it_too(self, emr: Any) -> None:
        """A shell that is closed while the last step runs leaves no idle cluster behind."""
        cluster_id = create_cluster(REGION, request("awaited"), "awaited")
        await_cluster(emr, cluster_id, timeout=30, poll=POLL)

        run_step(emr, cluster_id, step("true", "the last"), timeout=30, poll=POLL, last=True)

        until(lambda: cluster_state(emr, cluster_id) == "TERMINATED")


class TestTries:
    """A name tells generation and number of a try; the newest of a generation counts."""

    def test_only_tries_of_the_same_batch_are_seen(self, emr: Any) -> None:
        """Other batches and names of no try are left out."""
        cluster_id = create_cluster(REGION, request("tries"), "tries")
        names = ["pca b1 1.1", "pca b1 1.2", "pca b1 2.1", "pca b2 3.1", "featurize b1 1.1"]
        for name in [*names, "pca b1 1", "pca b1 1.1 again"]:
            add_step(emr, cluster_id, step("sleep 300", name))

        seen = seen_steps(emr, cluster_id, "b1")

        assert {(one.step, one.generation, one.number) for one in seen} == {
            ("pca", 1, 1),
            ("pca", 1, 2),
            ("pca", 2, 1),
            ("featurize", 1, 1),
        }
        assert all(one.is_live for one in seen)

    def test_the_highest_number_of_the_generation_counts(self) -> None:
        """In whatever order EMR lists them; 10 comes after 9."""
        seen = [SeenStep(f"s-{n}", "pca", 2, n, "FAILED") for n in (9, 10, 1)]

        newest = newest_try([*seen, SeenStep("s-old", "pca", 1, 99, "COMPLETED")], 2)

        assert newest
        assert newest.id == "s-10"
        assert newest_try(seen, 3) is None

    def test_a_task_without_an_answer_is_named(self) -> None:
        """Marked success by hand, a waiting task leaves nothing to commit, and that is said."""
        with pytest.raises(StepUnansweredError, match="Clear featurize"):
            attempt_of(None, "featurize")

        assert attempt_of({"step_id": "s-1", "attempt": "2.1"}, "featurize") == "2.1"
