"""A step's life in EMR calls: find, add once, wait, cancel; and which try of it is the one."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fruits.descriptions import logs_of
from fruits.errors import FruitsError
from fruits.lifecycle import emr_client, wait

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.type_defs import StepTypeDef

log = logging.getLogger(__name__)

FAILED = ("FAILED", "CANCELLED", "INTERRUPTED")
LIVE = ("PENDING", "CANCEL_PENDING", "RUNNING")


class StepFailedError(FruitsError):
    """A step did not complete; fields: cluster_id, step_id, state, reason, log_uri.

    *log_uri* is the folder of the step's controller, stdout and stderr.
    """

    cluster_id: str
    step_id: str
    state: str
    reason: str
    log_uri: str


class StepUnansweredError(FruitsError):
    """A task that should have waited for a step says nothing of one; field: step."""

    step: str


@dataclass(frozen=True)
class SeenStep:
    """A try at *step* (featurize, pca) as ListSteps shows it, the *number*-th of *generation*."""

    id: str
    step: str
    generation: int
    number: int
    state: str

    @property
    def is_live(self) -> bool:
        """Whether it runs or may still run."""
        return self.state in LIVE


def newest_try(seen: Iterable[SeenStep], generation: int) -> SeenStep | None:
    """Return the newest try of *generation*, the one that counts; None if there is none yet."""
    own = [step for step in seen if step.generation == generation]
    return max(own, key=lambda step: step.number, default=None)


def attempt_of(answer: dict[str, str] | None, step: str) -> str:
    """Return the name of the attempt that a waiting task answered with, or StepUnansweredError."""
    if not answer:
        raise StepUnansweredError(
            f"The task {step} says of no step that it completed: was it marked success by hand?",
            f"Clear {step} together with its downstream tasks.",
            step=step,
        )
    return answer["attempt"]


def seen_steps(client: EMRClient, cluster_id: str, batch: str) -> list[SeenStep]:
    """Return every try at a step of *batch* that the cluster has."""
    ours = re.compile(rf"(\w+) {re.escape(batch)} (\d+)\.(\d+)")
    pages = client.get_paginator("list_steps").paginate(ClusterId=cluster_id)
    return [
        SeenStep(found["Id"], name[1], int(name[2]), int(name[3]), found["Status"]["State"])
        for page in pages
        for found in page["Steps"]
        if (name := ours.fullmatch(found["Name"]))
    ]


def find_step(client: EMRClient, cluster_id: str, name: str) -> str | None:
    """Return the id of the cluster's newest step of that *name*, or None; a name tells an attempt.

    It may have failed: whoever waits for it says so.
    """
    pages = client.get_paginator("list_steps").paginate(ClusterId=cluster_id)
    return next((s["Id"] for page in pages for s in page["Steps"] if s["Name"] == name), None)


def add_step(client: EMRClient, cluster_id: str, step: dict[str, Any]) -> str:
    """Add *step*, whose name no other step of the cluster has, once; return its id.

    Like RunJobFlow, AddJobFlowSteps has no idempotency token: sent again after a lost answer, it
    would run the step twice, the second time over files that may be committed already.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    once = emr_client(client.meta.region_name, retries=False)
    try:
        added = once.add_job_flow_steps(JobFlowId=cluster_id, Steps=[step])  # type: ignore[list-item]
    except (BotoCoreError, ClientError) as error:
        if found := find_step(client, cluster_id, step["Name"]):
            log.warning("AddJobFlowSteps answered %s, yet step %s was added", error, found)
            return found
        raise
    return added["StepIds"][0]


def run_step(
    client: EMRClient,
    cluster_id: str,
    step: dict[str, Any],
    *,
    timeout: float,
    poll: float = 30,
    last: bool = False,
    on_poll: Callable[[], None] = lambda: None,
    explain: Callable[[], str | None] = lambda: None,
) -> str:
    """Add *step*, wait until it completed, and return its id; StepFailedError if it does not.

    The cluster ends itself after its *last* step, even if nobody is left who waits for it.
    *on_poll* is called before each look, for progress; *explain* may know why a step failed, better
    than EMR does. A step that is not done after *timeout* seconds is cancelled before
    WaitTimeoutError is raised, so that it does not run on unwatched.
    """
    step_id = add_step(client, cluster_id, step)
    if last:
        keep_alive(client, cluster_id, alive=False)

    def completed() -> bool:
        on_poll()
        described = client.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]
        if described["Status"]["State"] in FAILED:
            raise step_failed(client, cluster_id, described, explain())
        return described["Status"]["State"] == "COMPLETED"

    try:
        wait(completed, f"step {step_id} ({step['Name']})", timeout, poll)
    except BaseException:
        cancel_steps(client, cluster_id, step_id)
        raise
    return step_id


def cancel_steps(client: EMRClient, cluster_id: str, *step_ids: str) -> None:
    """Cancel the steps, running or not; one that has ended already is left as it is."""
    from botocore.exceptions import BotoCoreError, ClientError

    if not step_ids:
        return
    try:
        client.cancel_steps(
            ClusterId=cluster_id,
            StepIds=list(step_ids),
            StepCancellationOption="TERMINATE_PROCESS",
        )
    except (BotoCoreError, ClientError) as error:  # what brought us here says more
        log.info("Steps %s were not cancelled: %s", ", ".join(step_ids), error)


def keep_alive(client: EMRClient, cluster_id: str, *, alive: bool) -> None:
    """Let the cluster wait for further steps, or end itself once it has none left.

    It ends itself when whoever waits for its last step may be dead by then. A refusal is logged.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.set_keep_job_flow_alive_when_no_steps(
            JobFlowIds=[cluster_id], KeepJobFlowAliveWhenNoSteps=alive
        )
    except (BotoCoreError, ClientError) as error:  # it has ended, or its idle limit will end it
        log.warning("Cluster %s cannot be told when to end: %s", cluster_id, error)


def step_failed(
    client: EMRClient,
    cluster_id: str,
    step: StepTypeDef,
    cause: str | None,
    *,
    transient: bool = False,
) -> StepFailedError:
    """Return the error that says why *step* failed: its *cause* in the step's own words, if known.

    *transient* says that the step is to be tried once more.
    """
    step_id, state = step["Id"], step["Status"]["State"]
    details = step["Status"].get("FailureDetails", {})
    reason = cause or details.get("Message") or details.get("Reason") or "EMR gives no reason"
    logs = logs_of(client.describe_cluster(ClusterId=cluster_id)["Cluster"])
    folder = f"{logs}{cluster_id}/steps/{step_id}/"
    return StepFailedError(
        f"Step {step_id} of cluster {cluster_id} is {state}: {reason}.",
        f"Look at {folder}stderr.gz",
        cluster_id=cluster_id,
        step_id=step_id,
        state=state,
        reason=reason,
        log_uri=folder,
        transient=transient,
    )
