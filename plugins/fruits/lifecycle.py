"""A cluster's life in EMR calls: find or create, wait, run a step, end.

Every function takes an EMR client and polls; none keeps state, so any of them can be called again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fruits.clusters import TOKEN_TAG, cluster_name
from fruits.errors import FruitsError

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.literals import ClusterStateType
    from mypy_boto3_emr.type_defs import ClusterTypeDef, StepTypeDef

log = logging.getLogger(__name__)

LIVE: tuple[ClusterStateType, ...] = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
STEP_FAILED = ("FAILED", "CANCELLED", "INTERRUPTED")


class ClusterFailedError(FruitsError):
    """A cluster ended while it was needed; fields: cluster_id, state, reason, log_uri."""

    cluster_id: str
    state: str
    reason: str
    log_uri: str


class StepFailedError(FruitsError):
    """A step did not complete; fields: cluster_id, step_id, state, reason, log_uri.

    *log_uri* is the folder of the step's controller, stdout and stderr.
    """

    cluster_id: str
    step_id: str
    state: str
    reason: str
    log_uri: str


class WaitTimeoutError(FruitsError):
    """A cluster or a step was not where it should be in time; field: seconds."""

    seconds: float


def emr_client(region: str, *, retries: bool = True) -> EMRClient:
    """Return an EMR client that retries with back-off, or, for RunJobFlow, not even once.

    RunJobFlow has no idempotency token: a request that was taken and whose answer was lost would
    make a second cluster when it is sent again, and botocore sends it up to five times.
    """
    import boto3
    from botocore.config import Config

    kept: dict[str, Any] = (
        {"retries": {"mode": "adaptive", "max_attempts": 10}}
        if retries
        else {"retries": {"total_max_attempts": 1}}
    )
    return boto3.client("emr", region_name=region, config=Config(**kept))


def find_clusters(
    client: EMRClient, token: str, states: tuple[ClusterStateType, ...] | None = None
) -> list[str]:
    """Return the ids of the clusters that carry *token* as their tag, the newest first.

    *states* narrows the search; without it, clusters that have ended in the last week count too.
    """
    recent = datetime.now(UTC) - timedelta(days=7)
    paginator = client.get_paginator("list_clusters")
    pages = (
        paginator.paginate(CreatedAfter=recent, ClusterStates=list(states))
        if states
        else paginator.paginate(CreatedAfter=recent)
    )
    # The name is in a summary, the tag is not: few are looked at closely.
    named = [
        (summary["Status"]["Timeline"]["CreationDateTime"], summary["Id"])
        for page in pages
        for summary in page["Clusters"]
        if summary["Name"] == cluster_name(token)
    ]
    newest_first = [cluster_id for _, cluster_id in sorted(named, reverse=True)]
    return [cluster_id for cluster_id in newest_first if _has_token(client, cluster_id, token)]


def find_cluster(client: EMRClient, token: str) -> str | None:
    """Return the id of the newest live cluster of *token*, or None.

    The newest: when a second one came to be, nobody knew of the first. The watchdog keeps the same.
    """
    return next(iter(find_clusters(client, token, LIVE)), None)


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


def create_cluster(region: str, request: dict[str, Any], token: str) -> str:
    """Return the id of the one live cluster of *token*, creating it from *request* if needed."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = emr_client(region)
    if found := find_cluster(client, token):
        log.info("Adopting cluster %s, which carries token %s", found, token)
        return found
    try:
        cluster_id = emr_client(region, retries=False).run_job_flow(**request)["JobFlowId"]
    except (BotoCoreError, ClientError) as error:
        # The answer may be lost although the cluster was made: only a search can tell.
        if found := find_cluster(client, token):
            log.warning("RunJobFlow answered %s, yet cluster %s was created", error, found)
            return found
        raise
    log.info("Created cluster %s with token %s", cluster_id, token)
    return cluster_id


def await_cluster(
    client: EMRClient, cluster_id: str, *, timeout: float = 1800, poll: float = 30
) -> None:
    """Return once the cluster takes steps; ClusterFailedError if it ends first (times in s)."""

    def ready() -> bool:
        cluster = client.describe_cluster(ClusterId=cluster_id)["Cluster"]
        state = cluster["Status"]["State"]
        if state in ENDED or state == "TERMINATING":
            raise _cluster_failed(cluster_id, cluster)
        return state in ("RUNNING", "WAITING")

    _wait(ready, f"cluster {cluster_id} to be ready", timeout, poll)


def run_step(
    client: EMRClient,
    cluster_id: str,
    step: dict[str, Any],
    *,
    timeout: float,
    poll: float = 30,
    on_poll: Callable[[], None] = lambda: None,
    explain: Callable[[], str | None] = lambda: None,
) -> str:
    """Add *step*, wait until it completed, and return its id; StepFailedError if it does not.

    *on_poll* is called before each look, for progress; *explain* may know why a step failed, better
    than EMR does. A step that is not done after *timeout*
    seconds is cancelled before WaitTimeoutError is raised, so that it does not run on unwatched.
    """
    step_id = add_step(client, cluster_id, step)

    def completed() -> bool:
        on_poll()
        described = client.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]
        if described["Status"]["State"] in STEP_FAILED:
            raise _step_failed(client, cluster_id, described, explain())
        return described["Status"]["State"] == "COMPLETED"

    try:
        _wait(completed, f"step {step_id} ({step['Name']})", timeout, poll)
    except BaseException:
        cancel_step(client, cluster_id, step_id)
        raise
    return step_id


def ask_to_end(client: EMRClient, cluster_id: str) -> None:
    """Ask for a live cluster's end, protected or not, and do not wait for it."""
    client.set_termination_protection(JobFlowIds=[cluster_id], TerminationProtected=False)
    client.terminate_job_flows(JobFlowIds=[cluster_id])


def terminate_cluster(
    client: EMRClient, cluster_id: str, *, timeout: float = 900, poll: float = 15
) -> dict[str, Any]:
    """End the cluster, wait until it has ended, and return its last description.

    A cluster that has ended already, however, is fine.
    """
    # EMR may refuse to change the protection of a cluster that is ending already.
    if client.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]["State"] in LIVE:
        ask_to_end(client, cluster_id)
    last: dict[str, Any] = {}

    def ended() -> bool:
        last.update(client.describe_cluster(ClusterId=cluster_id)["Cluster"])
        return last["Status"]["State"] in ENDED

    _wait(ended, f"cluster {cluster_id} to end", timeout, poll)
    return last


def lifetime(cluster: Mapping[str, Any]) -> float:
    """Return how long an ended cluster lived, from creation to end, in seconds."""
    timeline = cluster["Status"]["Timeline"]
    return float((timeline["EndDateTime"] - timeline["CreationDateTime"]).total_seconds())


def _has_token(client: EMRClient, cluster_id: str, token: str) -> bool:
    tags = client.describe_cluster(ClusterId=cluster_id)["Cluster"].get("Tags", [])
    return any(tag.get("Key") == TOKEN_TAG and tag.get("Value") == token for tag in tags)


def _wait(done: Callable[[], bool], what: str, timeout: float, poll: float) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(
                f"Waited {timeout:.0f} s for {what}.",
                "Look at its state and logs in the EMR console.",
                seconds=timeout,
            )
        time.sleep(poll)


def cancel_step(client: EMRClient, cluster_id: str, step_id: str) -> None:
    """Cancel the step, running or not; one that has ended already is left as it is."""
    from botocore.exceptions import ClientError

    try:
        client.cancel_steps(
            ClusterId=cluster_id, StepIds=[step_id], StepCancellationOption="TERMINATE_PROCESS"
        )
    except ClientError as error:  # ended already: the error that brought us here says more
        log.info("Step %s was not cancelled: %s", step_id, error)


def _cluster_failed(cluster_id: str, cluster: ClusterTypeDef) -> ClusterFailedError:
    state, why = cluster["Status"]["State"], cluster["Status"].get("StateChangeReason", {})
    reason = f"{why.get('Code', 'no reason given')} {why.get('Message', '')}".strip()
    log_uri = f"{cluster.get('LogUri', '')}{cluster_id}/"
    return ClusterFailedError(
        f"Cluster {cluster_id} is {state}: {reason}.",
        f"Its logs are under {log_uri}",
        cluster_id=cluster_id,
        state=state,
        reason=reason,
        log_uri=log_uri,
    )


def _step_failed(
    client: EMRClient, cluster_id: str, step: StepTypeDef, cause: str | None
) -> StepFailedError:
    step_id, state = step["Id"], step["Status"]["State"]
    details = step["Status"].get("FailureDetails", {})
    reason = cause or details.get("Message") or details.get("Reason") or "EMR gives no reason"
    log_uri = client.describe_cluster(ClusterId=cluster_id)["Cluster"].get("LogUri", "")
    folder = f"{log_uri}{cluster_id}/steps/{step_id}/"
    return StepFailedError(
        f"Step {step_id} of cluster {cluster_id} is {state}: {reason}.",
        f"Look at {folder}stderr.gz",
        cluster_id=cluster_id,
        step_id=step_id,
        state=state,
        reason=reason,
        log_uri=folder,
    )
