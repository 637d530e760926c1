"""A cluster's life in EMR calls: find or create, wait, end.

Every function takes an EMR client and polls; none keeps state, so any of them can be called again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fruits.clusters import TOKEN_TAG, cluster_name
from fruits.descriptions import age_in, logs_of, tags_of
from fruits.errors import FruitsError

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.literals import ClusterStateType
    from mypy_boto3_emr.type_defs import ClusterTypeDef, InstanceTypeDef

log = logging.getLogger(__name__)

LIVE: tuple[ClusterStateType, ...] = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
# How boto3 asks what may be asked again: what only looks, and cancelling.
PATIENT: dict[str, Any] = {"retries": {"mode": "adaptive", "max_attempts": 10}}


class ClusterFailedError(FruitsError):
    """A cluster ended while it was needed; fields: cluster_id, state, reason, log_uri."""

    cluster_id: str
    state: str
    reason: str
    log_uri: str


class WaitTimeoutError(FruitsError):
    """A cluster or a step was not where it should be in time; field: seconds."""

    transient = True
    seconds: float


def emr_client(region: str, *, retries: bool = True) -> EMRClient:
    """Return an EMR client that retries with back-off, or, for RunJobFlow, not even once.

    RunJobFlow has no idempotency token: a request that was taken and whose answer was lost would
    make a second cluster when it is sent again, and botocore sends it up to five times.
    """
    import boto3
    from botocore.config import Config

    kept: dict[str, Any] = PATIENT if retries else {"retries": {"total_max_attempts": 1}}
    return boto3.client("emr", region_name=region, config=Config(**kept))


def find_clusters(client: EMRClient, token: str, *, live: bool = False) -> list[str]:
    """Return the ids of the clusters of *token*, as `describe_clusters` finds them."""
    return [cluster["Id"] for cluster in describe_clusters(client, token, live=live)]


def describe_clusters(client: EMRClient, token: str, *, live: bool = False) -> list[ClusterTypeDef]:
    """Return what EMR says of the clusters that carry *token* as their tag, the newest first.

    Those of the last week that have ended count too, unless only *live* ones are asked for. Both
    searches go by EMR's clock: one that trusted a clock that is ahead would find nothing.
    """
    from fruits.objects import answer_time

    paginator = client.get_paginator("list_clusters")
    pages = list(paginator.paginate(ClusterStates=list(LIVE)))
    if not live:
        week_ago = answer_time(pages[0]) - timedelta(days=7)
        pages += paginator.paginate(CreatedAfter=week_ago)
    # The name is in a summary, the tag is not: few are looked at closely.
    named = {
        summary["Id"]: summary["Status"]["Timeline"]["CreationDateTime"]
        for page in pages
        for summary in page["Clusters"]
        if summary["Name"] == cluster_name(token)
    }
    newest_first = sorted(named, key=lambda one: (named[one], one), reverse=True)
    found = (
        client.describe_cluster(ClusterId=cluster_id)["Cluster"] for cluster_id in newest_first
    )
    return [cluster for cluster in found if tags_of(cluster).get(TOKEN_TAG) == token]


def find_cluster(client: EMRClient, token: str) -> str | None:
    """Return the id of the newest live cluster of *token*, or None.

    The newest: when a second one came to be, nobody knew of the first. The watchdog keeps the same.
    """
    return next(iter(find_clusters(client, token, live=True)), None)


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
    client: EMRClient,
    cluster_id: str,
    *,
    timeout: float = 1800,
    poll: float = 30,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Return once the cluster takes steps; ClusterFailedError if it ends first (times in s).

    *on_poll* is called before each look.
    """

    def ready() -> bool:
        on_poll()
        cluster = check_alive(client, cluster_id)
        return cluster["Status"]["State"] in ("RUNNING", "WAITING")

    wait(ready, f"cluster {cluster_id} to be ready", timeout, poll)


def check_alive(client: EMRClient, cluster_id: str) -> ClusterTypeDef:
    """Return the cluster's description, or raise ClusterFailedError if it is ending or ended."""
    cluster = client.describe_cluster(ClusterId=cluster_id)["Cluster"]
    if cluster["Status"]["State"] not in LIVE:
        raise _cluster_failed(cluster_id, cluster)
    return cluster


def cluster_age(client: EMRClient, cluster_id: str) -> timedelta:
    """Return how long ago the cluster was created, by EMR's clock: ours may be wrong."""
    return age_in(client.describe_cluster(ClusterId=cluster_id))


def ask_to_end(client: EMRClient, cluster_id: str) -> None:
    """Ask for a live cluster's end, protected or not, and do not wait for it.

    Ours are made without protection; somebody may have switched it on, and not every role may
    switch it off.
    """
    from botocore.exceptions import ClientError

    try:
        client.set_termination_protection(JobFlowIds=[cluster_id], TerminationProtected=False)
    except ClientError as error:
        log.warning("The protection of cluster %s cannot be switched off: %s", cluster_id, error)
    client.terminate_job_flows(JobFlowIds=[cluster_id])


def end_duplicates(client: EMRClient, token: str, keep: str) -> list[str]:
    """Ask every other live cluster of *token* than *keep* to end; return their ids.

    Whoever waits for *keep* calls this at each look: the answer to a RunJobFlow may be lost, and
    its cluster listed only after the search that followed.
    """
    others = [one for one in find_clusters(client, token, live=True) if one != keep]
    for cluster_id in others:
        log.warning("Ending cluster %s: %s has the same token %s", cluster_id, keep, token)
        _try_to_end(client, cluster_id)
    return others


def terminate_cluster(
    client: EMRClient, cluster_id: str, *, timeout: float = 900, poll: float = 15
) -> dict[str, Any] | None:
    """End the cluster, wait until it has ended, and return its last description.

    A cluster that has ended already, however, is fine, and so is one that EMR does not know (None).
    What EMR refuses is asked for again at each look: somebody may protect the cluster meanwhile.
    Raises WaitTimeoutError if it has not ended after *timeout* seconds.
    """
    last: dict[str, Any] = {}

    def ended() -> bool:
        last.update(client.describe_cluster(ClusterId=cluster_id)["Cluster"])
        # EMR may refuse to change the protection of a cluster that is ending already.
        if last["Status"]["State"] in LIVE:
            _try_to_end(client, cluster_id)
        return last["Status"]["State"] in ENDED

    try:
        wait(ended, f"cluster {cluster_id} to end", timeout, poll)
    except client.exceptions.InvalidRequestException as error:
        log.warning("EMR does not know cluster %s: %s", cluster_id, error)
        return None
    return last


def lifetime(cluster: Mapping[str, Any]) -> float:
    """Return how long an ended cluster lived, from creation to end, in seconds."""
    timeline = cluster["Status"]["Timeline"]
    return float((timeline["EndDateTime"] - timeline["CreationDateTime"]).total_seconds())


def list_instances(client: EMRClient, cluster_id: str) -> list[InstanceTypeDef]:
    """Return every instance that the cluster ever had, with its type and timeline."""
    pages = client.get_paginator("list_instances").paginate(ClusterId=cluster_id)
    return [instance for page in pages for instance in page["Instances"]]


def _try_to_end(client: EMRClient, cluster_id: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        ask_to_end(client, cluster_id)
    except (BotoCoreError, ClientError) as error:
        log.warning("Cluster %s cannot be asked to end yet: %s", cluster_id, error)


def wait(done: Callable[[], bool], what: str, timeout: float, poll: float) -> None:
    """Return once *done* says so, asked every *poll* s; WaitTimeoutError after *timeout* s."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(
                f"Waited {timeout:.0f} s for {what}.",
                "Look at its state and logs in the EMR console.",
                seconds=timeout,
            )
        time.sleep(poll)


def _cluster_failed(cluster_id: str, cluster: ClusterTypeDef) -> ClusterFailedError:
    state, why = cluster["Status"]["State"], cluster["Status"].get("StateChangeReason", {})
    reason = f"{why.get('Code', 'no reason given')} {why.get('Message', '')}".strip()
    log_uri = f"{logs_of(cluster)}{cluster_id}/"
    return ClusterFailedError(
        f"Cluster {cluster_id} is {state}: {reason}.",
        f"Its logs are under {log_uri}",
        cluster_id=cluster_id,
        state=state,
        reason=reason,
        log_uri=log_uri,
    )
