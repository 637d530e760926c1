"""Ends the clusters that nobody wants any more, whatever became of the run that made them.

    python -m fruits.watchdog [--dry-run]

It knows tags and leases, no run and no database: of all live clusters it looks at those that carry
our tag, and ends each whose lease is over, that is older than its cap, or that is not the newest of
its token. It never touches a cluster without our tag. What cannot be read is no reason to end
anything: a cluster whose lease is unreadable is kept until its cap, and the look fails at its end.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fruits.clusters import CAP_TAG, TOKEN_TAG
from fruits.errors import FruitsError
from fruits.lifecycle import LIVE, ask_to_end, emr_client
from fruits.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.type_defs import ClusterTypeDef

    from fruits.leases import Lease

log = logging.getLogger(__name__)

# A lease is written before its cluster is created: one that is missing for so long was lost.
GRACE = timedelta(minutes=15)
# The most that Settings allows: for a cluster whose tag was lost or garbled by hand.
LONGEST_CAP = timedelta(minutes=1440)


@dataclass(frozen=True)
class Sighting:
    """A live cluster with our tag, as it was seen; *unreadable* says why its lease is unknown."""

    cluster_id: str
    token: str
    created: datetime
    cap: timedelta
    lease: Lease | None = None
    unreadable: str = ""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a cluster: it ends if there is a reason to."""

    cluster_id: str
    token: str
    reasons: tuple[str, ...]

    @property
    def ends(self) -> bool:
        """Whether the cluster is to be terminated."""
        return bool(self.reasons)


class WatchdogError(FruitsError):
    """Something could not be looked at or ended; fields: terminated, problems."""

    terminated: tuple[str, ...]
    problems: tuple[str, ...]


def judge(sightings: Sequence[Sighting], now: datetime) -> list[Verdict]:
    """Return a verdict on each cluster, in the order given; *now* has a time zone.

    The newest cluster of a token stays: it is the one that `find_cluster` returns to the run.
    """
    newest = {
        seen.token: seen.cluster_id
        for seen in sorted(sightings, key=lambda seen: (seen.created, seen.cluster_id))
    }
    return [
        Verdict(seen.cluster_id, seen.token, tuple(_reasons(seen, newest[seen.token], now)))
        for seen in sightings
    ]


def watch(settings: Settings, *, dry_run: bool = False) -> dict[str, Any]:
    """Look once at every live cluster, end those that nobody wants, and return what was found.

    With *dry_run* nothing is ended. Raises WatchdogError, after everything that can be done is
    done, if a cluster or lease could not be read or a cluster could not be asked to end.
    """
    client = emr_client(settings.region)
    problems: list[str] = []
    sightings = _look(client, settings.lake, problems)
    verdicts = judge(sightings, datetime.now(UTC))
    for verdict in verdicts:
        _tell(verdict, dry_run)
    condemned = [verdict for verdict in verdicts if verdict.ends]
    ended = [] if dry_run else [v.cluster_id for v in condemned if _end(client, v, problems)]
    if problems:
        raise WatchdogError(
            f"{len(problems)} of the clusters could not be guarded: {'; '.join(problems)}.",
            "Until the cause is repaired, their own timers and idle limits alone end them.",
            terminated=tuple(ended),
            problems=tuple(problems),
        )
    return {
        "dry_run": dry_run,
        "ours": len(verdicts),
        "terminated": ended,
        "findings": [
            {"cluster_id": v.cluster_id, "token": v.token, "reasons": list(v.reasons)}
            for v in condemned
        ],
    }


def _reasons(seen: Sighting, newest: str, now: datetime) -> Iterable[str]:
    age = now - seen.created
    if seen.lease and seen.lease.is_over(now):
        yield f"its lease was over at {seen.lease.until:%Y-%m-%d %H:%M:%S %Z}"
    if not seen.lease and not seen.unreadable and age >= GRACE:
        yield f"it has no lease, {_minutes(age)} after its creation"
    if age >= seen.cap:
        yield f"it is {_minutes(age)} old, its cap is {_minutes(seen.cap)}"
    if seen.cluster_id != newest:
        yield f"{newest} is the newest cluster of its token"


def _look(client: EMRClient, lake: str, problems: list[str]) -> list[Sighting]:
    """Return all live clusters that carry our tag; what cannot be read goes to *problems*."""
    from botocore.exceptions import BotoCoreError, ClientError

    pages = client.get_paginator("list_clusters").paginate(ClusterStates=list(LIVE))
    sightings = []
    for cluster_id in [summary["Id"] for page in pages for summary in page["Clusters"]]:
        try:
            cluster = client.describe_cluster(ClusterId=cluster_id)["Cluster"]
        except (BotoCoreError, ClientError) as error:
            problems.append(f"{cluster_id} cannot be described: {error}")
            continue
        if (seen := _sight(cluster, lake)) is None:
            continue
        if seen.unreadable:
            problems.append(f"the lease of {cluster_id} cannot be read: {seen.unreadable}")
        sightings.append(seen)
    return sightings


def _sight(cluster: ClusterTypeDef, lake: str) -> Sighting | None:
    tags = {tag.get("Key", ""): tag.get("Value", "") for tag in cluster.get("Tags", [])}
    if not tags.get(TOKEN_TAG):
        return None
    token, created = tags[TOKEN_TAG], cluster["Status"]["Timeline"]["CreationDateTime"]
    lease, unreadable = _lease(_lake_of(cluster, lake), token)
    return Sighting(cluster["Id"], token, created, _cap(tags), lease, unreadable)


def _lease(lake: str, token: str) -> tuple[Lease | None, str]:
    """Return the lease, if there is one, and why it cannot be read, if it cannot."""
    from botocore.exceptions import BotoCoreError, ClientError

    from fruits.leases import read_lease

    try:
        return read_lease(lake, token), ""
    except (BotoCoreError, ClientError, ValueError, TypeError, KeyError) as error:
        return None, f"{type(error).__name__} {error}"


def _lake_of(cluster: ClusterTypeDef, default: str) -> str:
    """Return the lake of the deployment that made the cluster: another one's keeps other leases."""
    # EMR gives the scheme back as s3n.
    path, found, _ = cluster.get("LogUri", "").partition("://")[2].rpartition("/logs")
    return f"s3://{path}" if found else default


def _cap(tags: Mapping[str, str]) -> timedelta:
    minutes = tags.get(CAP_TAG, "")
    return min(timedelta(minutes=int(minutes)), LONGEST_CAP) if minutes.isdecimal() else LONGEST_CAP


def _end(client: EMRClient, verdict: Verdict, problems: list[str]) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        ask_to_end(client, verdict.cluster_id)
    except (BotoCoreError, ClientError) as error:
        problems.append(f"{verdict.cluster_id} cannot be ended: {error}")
        return False
    return True


def _tell(verdict: Verdict, dry_run: bool) -> None:
    named = f"Cluster {verdict.cluster_id} of token {verdict.token}"
    if not verdict.ends:
        log.info("%s is wanted", named)
        return
    fate = "would be terminated" if dry_run else "is terminated"
    log.warning("%s %s: %s", named, fate, "; ".join(verdict.reasons))


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:.0f} min"


def main(arguments: list[str] | None = None) -> int:
    """Look once; 0 if every cluster of ours could be guarded, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m fruits.watchdog",
        description=__doc__,
        epilog="Settings come from the environment (FRUITS_REGION, FRUITS_LAKE_URI), credentials "
        "from where boto3 looks for them. Exit code 1: something could not be guarded.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would end, end nothing")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        found = watch(Settings(), dry_run=options.dry_run)
    except WatchdogError as error:
        log.warning("%s", error)
        return 1
    log.info(
        "%d live clusters of ours, %d terminated%s",
        found["ours"],
        len(found["terminated"]),
        " (dry run)" if found["dry_run"] else "",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
