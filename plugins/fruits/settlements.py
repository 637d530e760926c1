"""What a token's clusters really cost, from EMR's records of their instances into the ledger."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fruits.clusters import GENERATION_TAG, NODE_DISK_GB, TOKEN_TAG, cluster_name
from fruits.costs import PriceTable, UnknownPriceError, Usage, spent
from fruits.descriptions import tags_of
from fruits.errors import FruitsError
from fruits.ledger import Charge, Entry, settle
from fruits.lifecycle import ENDED, lifetime, list_instances

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.type_defs import ClusterTypeDef, InstanceTypeDef

log = logging.getLogger(__name__)


class UnsettledError(FruitsError):
    """What some clusters cost cannot be worked out; field: entries."""

    entries: tuple[str, ...]


# The clocks of S3, which dates an entry, and of EMR, which dates its cluster, are two.
SLACK = timedelta(hours=1)


def settle_entries(
    client: EMRClient,
    lake: str,
    entries: Sequence[Entry],
    prices: PriceTable,
    *,
    settled_by: str,
    now: datetime,
) -> list[Entry]:
    """Settle those of *entries* that are open and whose token has no cluster left; return them.

    *now* is S3's time. A token of which a cluster still lives stays charged at the worst case. So
    does one whose cost cannot be worked out: UnsettledError names them once all others are settled.
    """
    unsettled = [entry for entry in entries if entry.spent is None]
    if not unsettled:
        return []
    since = min(entry.reserved_at for entry in unsettled) - SLACK
    found = clusters_since(client, {entry.token for entry in unsettled}, since)
    settled, unknown = [], {}
    for entry in unsettled:
        clusters = found[entry.token]
        if any(cluster["Status"]["State"] not in ENDED for cluster in clusters):
            continue
        own = [one for one in clusters if tags_of(one).get(GENERATION_TAG) == str(entry.generation)]
        try:
            charges = [
                charge(cluster, list_instances(client, cluster["Id"]), prices) for cluster in own
            ]
        except (UnknownPriceError, KeyError) as error:  # that of one keeps no other waiting
            unknown[f"generation {entry.generation} of {entry.token}"] = str(error)
            continue
        settled.append(settle(lake, entry, charges, settled_by, now))
        log.info(
            "Settled generation %d of %s: %.2f of the %.2f %s that were promised",
            entry.generation,
            entry.token,
            settled[-1].charge,
            entry.worst_case,
            entry.currency,
        )
    if unknown:
        raise UnsettledError(
            f"There is no cost of {'; '.join(f'{name}: {why}' for name, why in unknown.items())}.",
            "Until then they are charged at the worst case. `python -m fruits.prices` fetches the "
            "prices that are missing.",
            entries=tuple(unknown),
        )
    return settled


def clusters_since(
    client: EMRClient, tokens: Collection[str], since: datetime
) -> dict[str, list[ClusterTypeDef]]:
    """Return the descriptions of each token's clusters, alive or ended, created after *since*."""
    names = {cluster_name(token) for token in tokens}
    pages = client.get_paginator("list_clusters").paginate(CreatedAfter=since)
    named = [one["Id"] for page in pages for one in page["Clusters"] if one["Name"] in names]
    found: dict[str, list[ClusterTypeDef]] = {token: [] for token in tokens}
    for cluster_id in named:
        cluster = client.describe_cluster(ClusterId=cluster_id)["Cluster"]
        if (token := tags_of(cluster).get(TOKEN_TAG)) in found:
            found[token].append(cluster)
    return found


def charge(
    cluster: Mapping[str, Any], instances: Sequence[InstanceTypeDef], prices: PriceTable
) -> Charge:
    """Return what the ended *cluster* is charged: each instance from its creation to its end.

    An instance whose end EMR does not tell lived as long as its cluster.
    """
    of_cluster = cluster["Status"]["Timeline"]
    usages = []
    for instance in instances:
        timeline = of_cluster | instance["Status"].get("Timeline", {})
        seconds = (timeline["EndDateTime"] - timeline["CreationDateTime"]).total_seconds()
        usages.append(Usage(instance["InstanceType"], seconds, NODE_DISK_GB))
    return Charge(cluster["Id"], round(lifetime(cluster), 1), round(spent(usages, prices), 4))
