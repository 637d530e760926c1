"""A task's claim on its cluster: what reserve_cluster returned, while the lease still says so.

A task that was thought dead may wake up when its run has been cleared or torn down. It must not
create a cluster then, nor add a step: nobody would wait for them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fruits.clusters import GENERATION_TAG
from fruits.descriptions import tags_of
from fruits.errors import FruitsError

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient

log = logging.getLogger(__name__)


class ClaimLostError(FruitsError):
    """The cluster is not this task's any more; fields: token, generation, given_up.

    *given_up* says that it is nobody's: the run's teardown has ended the lease.
    """

    token: str | None
    generation: int | None
    given_up: bool


def renew_claim(lake: str, reserved: dict[str, Any] | None) -> None:
    """Renew the lease of what is *reserved*; ClaimLostError if it is another's or was ended."""
    from fruits.leases import read_lease, renew_lease

    claim = reserved or {}
    token, generation = claim.get("token"), claim.get("generation")
    lease = read_lease(lake, token) if token else None
    if lease is None or lease.ended or lease.generation != generation:
        raise ClaimLostError(
            _why(lease.ended, lease.generation) if lease else "There is no lease for a cluster.",
            "If no other task goes on with it: clear reserve_cluster with its downstream tasks.",
            token=token,
            generation=generation,
            given_up=bool(lease and lease.ended),
        )
    renew_lease(lake, lease.token)


def check_promise(lake: str, reserved: dict[str, Any]) -> None:
    """Raise ClaimLostError if what was *reserved* is settled: no cluster of it would be charged.

    A run that stood still for longer than its lease has had its promise settled by the watchdog.
    """
    from fruits.ledger import month_entries

    token, generation = reserved["token"], reserved["generation"]
    entries = month_entries(lake, reserved["month"], token)
    if any(entry.generation == generation and entry.spent is not None for entry in entries):
        raise ClaimLostError(
            "Nobody waited for the cluster for longer than the lease lasts, so its promise was "
            "settled.",
            "Clear reserve_cluster with its downstream tasks.",
            token=token,
            generation=generation,
            given_up=False,
        )


def reopen_promise(lake: str, reserved: dict[str, Any]) -> None:
    """Charge what was *reserved* again, if its teardown settled it before there was a cluster."""
    from fruits.ledger import month_entries, reopen

    for entry in month_entries(lake, reserved["month"], reserved["token"]):
        if entry.generation == reserved["generation"] and entry.spent is not None:
            reopen(lake, entry)


def check_unspent(client: EMRClient, reserved: dict[str, Any]) -> None:
    """Raise ClaimLostError if what was *reserved* has had its cluster, which has ended.

    Its promise is for one. The task that created it may have died before anybody knew, and Airflow
    with it, until the cluster's idle limit.
    """
    from fruits.lifecycle import LIVE, describe_clusters

    token, generation = reserved["token"], reserved["generation"]
    found = describe_clusters(client, token)
    if any(cluster["Status"]["State"] in LIVE for cluster in found):
        return  # that one is adopted
    for cluster in found:
        if tags_of(cluster).get(GENERATION_TAG) == str(generation):
            raise ClaimLostError(
                f"Cluster {cluster['Id']} was created for this promise, and has ended.",
                "Clear reserve_cluster with its downstream tasks.",
                token=token,
                generation=generation,
                given_up=False,
            )


def keep_claim(lake: str, reserved: dict[str, Any] | None) -> None:
    """Renew the lease like `renew_claim`, but let an S3 that does not answer wait until next time.

    A lease lasts for several looks, so that one that fails ends nothing.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        renew_claim(lake, reserved)
    except (BotoCoreError, ClientError) as error:
        log.warning("The lease could not be renewed this time: %s", error)


def _why(ended: bool, generation: int) -> str:
    if ended:
        return "The run's teardown has given the cluster up."
    return f"The run was cleared: generation {generation} has the cluster now."
