"""The clusters of ours that cost money now: what they do, for how long, and what they can cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from fruits.batches import Batch
from fruits.clusters import GENERATION_TAG, TOKEN_TAG, cap_in, cluster_name
from fruits.consoles import cluster_url, folder_url
from fruits.costs import MARGIN
from fruits.descriptions import age_in, lake_of, tags_of
from fruits.leases import Lease, lease_or_why
from fruits.lifecycle import LIVE
from fruits.progress import read_progress

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.literals import ClusterStateType

    from fruits.settings import Settings

# Its machines are paid for until it has ended.
ENDING: ClusterStateType = "TERMINATING"
# Two of one token are a fault already; more than that need no page.
MOST = 5


@dataclass(frozen=True)
class Progress:
    """How far the step that runs is."""

    step: str
    done: int
    total: int
    eta_seconds: float | None


@dataclass(frozen=True)
class LiveCluster:
    """One cluster, alive or ending; *age* is by EMR's clock, *cap* the longest that it may live.

    *is_unreadable* says of its lease that nobody knows what it says.
    """

    id: str
    state: str
    token: str
    generation: str
    age: timedelta
    cap: timedelta
    lease: Lease | None
    is_unreadable: bool
    step: str | None
    progress: Progress | None
    console: str
    logs: str

    @property
    def is_ending(self) -> bool:
        """Whether it takes no steps any more."""
        return self.state == ENDING

    @property
    def age_share(self) -> float:
        """How much of its longest life has passed."""
        return self.age / self.cap if self.cap else 1.0

    @property
    def cost_so_far(self) -> float | None:
        """What it has cost at the most: its promise is for its cap and a margin beyond it."""
        if self.lease is None:
            return None
        passed = self.age / (self.cap + timedelta(minutes=MARGIN))
        return self.lease.worst_case * min(1.0, passed)


def live_clusters(client: EMRClient, settings: Settings) -> tuple[LiveCluster, ...]:
    """Return the clusters of this lake's runs that have not ended, the newest first, at most 5."""
    pages = client.get_paginator("list_clusters").paginate(ClusterStates=[*LIVE, ENDING])
    ids = [one["Id"] for page in pages for one in page["Clusters"] if _is_named(one["Name"])]
    found = (_describe(client, settings, cluster_id) for cluster_id in ids)
    ours = islice((one for one in found if one), MOST)
    return tuple(sorted(ours, key=lambda one: one.age))


def _is_named(name: str) -> bool:
    return name.startswith(cluster_name(""))


def _describe(client: EMRClient, settings: Settings, cluster_id: str) -> LiveCluster | None:
    answer = client.describe_cluster(ClusterId=cluster_id)
    cluster = answer["Cluster"]
    if cluster["Status"]["State"] not in (*LIVE, ENDING):
        return None  # it ended since it was listed
    tags = tags_of(cluster)
    # Another deployment's is told on its own page.
    if not tags.get(TOKEN_TAG) or lake_of(cluster) != settings.lake:
        return None
    token = tags[TOKEN_TAG]
    step_id, step = _running_step(client, cluster_id)
    lease, unreadable = lease_or_why(settings.lake, token)
    logs = f"{settings.lake}/logs/{cluster_id}/{f'steps/{step_id}/' if step_id else ''}"
    return LiveCluster(
        id=cluster_id,
        state=cluster["Status"]["State"],
        token=token,
        generation=tags.get(GENERATION_TAG, ""),
        age=age_in(answer),
        cap=cap_in(tags),
        lease=lease,
        is_unreadable=bool(unreadable),
        step=step,
        progress=_progress(settings.lake, token, step) if step else None,
        console=cluster_url(settings.region, cluster_id),
        logs=folder_url(settings.region, logs),
    )


def _running_step(client: EMRClient, cluster_id: str) -> tuple[str | None, str | None]:
    steps = client.list_steps(ClusterId=cluster_id, StepStates=["RUNNING", "PENDING"])["Steps"]
    return (steps[-1]["Id"], steps[-1]["Name"]) if steps else (None, None)


def _progress(lake: str, token: str, name: str) -> Progress | None:
    """Return what the step *name* (featurize <batch> <attempt>) last told of itself."""
    step, _, attempt = name.replace(f" {token} ", " ").partition(" ")
    told = read_progress(Batch(lake, token).attempt(attempt).work(step))
    return Progress(step, told["done"], told["total"], told.get("eta_seconds")) if told else None
