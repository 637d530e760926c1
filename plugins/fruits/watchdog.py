"""Ends the clusters that nobody wants any more, whatever became of the run that made them.

    python -m fruits.watchdog [--dry-run]

It knows tags, leases and the ledger, no run and no database: of all live clusters it looks at those
that carry our tag, and ends each whose lease is over (or missing after a quarter of an hour), that
is older than its cap, or that is not the newest of its token. It never touches a cluster without
our tag. The clocks of EMR and S3 tell ages, not that of this machine. What cannot be read is no
reason to end anything: a cluster whose lease is unreadable is kept until its cap, and the look
fails at its end. (A neighbour's lake may be closed to us; its own watchdog looks at its leases.)

What it ended, and that it has looked, is written to the ledger. Where no run is left to do it, it
settles what they cost.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fruits.clusters import GENERATION_TAG, TOKEN_TAG, cap_in
from fruits.costs import read_prices
from fruits.descriptions import age_in, lake_of, tags_of
from fruits.errors import FruitsError
from fruits.lifecycle import LIVE, ask_to_end, emr_client
from fruits.settings import Settings, SettingsError, load_guard_settings
from fruits.verdicts import GRACE, Sighting, Verdict, judge

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient

    from fruits.ledger import Entry

log = logging.getLogger(__name__)


class WatchdogError(FruitsError):
    """Something could not be looked at or ended; fields: found, as `watch` returns it, problems."""

    transient = True
    found: dict[str, Any]
    problems: tuple[str, ...]


def watch(settings: Settings, *, dry_run: bool = False) -> dict[str, Any]:
    """Look once at every live cluster, end those that nobody wants, and return what was found.

    With *dry_run* nothing is ended or written. Raises WatchdogError, after everything that can be
    done is done, if something could not be read, ended or written down.
    """
    from fruits.looks import remember_look

    client = emr_client(settings.region)
    problems: list[str] = []
    sightings = _look(client, settings.lake, problems)
    verdicts = judge(sightings)
    for verdict in verdicts:
        _tell(verdict, dry_run)
    condemned = [verdict for verdict in verdicts if verdict.ends]
    found: dict[str, Any] = {
        "dry_run": dry_run,
        "ours": len(verdicts),
        "terminated": [],
        "findings": [
            {"cluster_id": one.cluster_id, "token": one.token, "reasons": list(one.reasons)}
            for one in condemned
        ],
        "settled": [],
    }
    if not dry_run:
        found["terminated"] = [v.cluster_id for v in condemned if _end(client, v, problems)]
        with _noted("the ledger could not be kept", problems):
            found["settled"] = _keep_ledger(client, settings, sightings, problems)
        with _noted("the findings could not be written down", problems):
            _write_down(settings.lake, found)
        with _noted("the look could not be written down", problems):
            remember_look(settings.lake, problems)
    if problems:
        raise WatchdogError(
            f"{len(problems)} things could not be guarded: {'; '.join(problems)}.",
            "Until the cause is repaired, the clusters' own timers and idle limits alone end them.",
            found=found,
            problems=tuple(problems),
        )
    return found


def _look(client: EMRClient, lake: str, problems: list[str]) -> list[Sighting]:
    """Return all live clusters that carry our tag; what cannot be read goes to *problems*."""
    pages = client.get_paginator("list_clusters").paginate(ClusterStates=list(LIVE))
    sightings = []
    for cluster_id in [summary["Id"] for page in pages for summary in page["Clusters"]]:
        with _noted(f"{cluster_id} cannot be described", problems):
            if seen := _sight(client, cluster_id, lake):
                sightings.append(seen)
                if seen.unreadable and seen.lake == lake:
                    problems.append(f"the lease of {cluster_id} cannot be read: {seen.unreadable}")
    return sightings


def _sight(client: EMRClient, cluster_id: str, lake: str) -> Sighting | None:
    from fruits.leases import lease_or_why

    answer = client.describe_cluster(ClusterId=cluster_id)
    cluster = answer["Cluster"]
    tags = tags_of(cluster)
    if not tags.get(TOKEN_TAG):
        return None
    its_lake = lake_of(cluster) or lake  # another deployment's keeps other leases
    lease, unreadable = lease_or_why(its_lake, tags[TOKEN_TAG])
    return Sighting(
        cluster_id=cluster_id,
        token=tags[TOKEN_TAG],
        created=cluster["Status"]["Timeline"]["CreationDateTime"],
        age=age_in(answer),
        cap=cap_in(tags),
        generation=tags.get(GENERATION_TAG, ""),
        lake=its_lake,
        lease=lease,
        unreadable=unreadable,
    )


def _end(client: EMRClient, verdict: Verdict, problems: list[str]) -> bool:
    with _noted(f"{verdict.cluster_id} cannot be ended", problems):
        ask_to_end(client, verdict.cluster_id)
        return True
    return False


def _keep_ledger(
    client: EMRClient, settings: Settings, sightings: Sequence[Sighting], problems: list[str]
) -> list[dict[str, Any]]:
    """Settle what no run settles any more; return it. What cannot be read goes to *problems*.

    A live cluster of an entry that is settled came to be after its run had looked for it, from a
    RunJobFlow that was still under way: its entry is opened again.
    """
    from fruits.ledger import recent_entries, reopen
    from fruits.objects import storage_time
    from fruits.settlements import settle_entries

    now = storage_time(settings.lake)
    entries = recent_entries(settings.lake, now, unreadable=problems)
    live = {(one.token, one.generation) for one in sightings if one.lake == settings.lake}
    for entry in entries:
        if entry.spent is not None and (entry.token, str(entry.generation)) in live:
            log.warning("Generation %d of %s has a late cluster", entry.generation, entry.token)
            reopen(settings.lake, entry)
    left = _without_a_run(settings.lake, entries, {token for token, _ in live}, now, problems)
    prices = read_prices(settings.region)
    settled = settle_entries(
        client, settings.lake, left, prices, settled_by="fruits_cost_watchdog", now=now
    )
    return [
        {"token": entry.token, "generation": entry.generation, "spent": entry.spent}
        for entry in settled
    ]


def _without_a_run(
    lake: str, entries: Sequence[Entry], live: set[str], now: datetime, problems: list[str]
) -> list[Entry]:
    """Return the open entries whose token has no *live* cluster and whose lease is over or lost.

    An entry is written before its generation's lease: the lease of an earlier one is none of it.
    Those of a lease that cannot be read stay open.
    """
    from fruits.leases import lease_or_why

    unsettled = [one for one in entries if one.spent is None and one.token not in live]
    leases = {token: lease_or_why(lake, token) for token in {one.token for one in unsettled}}
    for token, (_, unreadable) in leases.items():
        if unreadable:
            problems.append(f"the lease of {token} cannot be read: {unreadable}")

    def is_left(entry: Entry) -> bool:
        lease, unreadable = leases[entry.token]
        if unreadable:
            return False
        if lease and lease.generation >= entry.generation:
            return lease.is_over
        return now - entry.reserved_at >= GRACE

    return [entry for entry in unsettled if is_left(entry)]


def _write_down(lake: str, found: Mapping[str, Any]) -> None:
    from fruits.objects import storage_time, write_json

    if found["terminated"]:
        # The id keeps two looks of the same second apart.
        name = f"{storage_time(lake):%Y%m%dT%H%M%SZ}-{found['terminated'][0]}"
        write_json(f"{lake}/ledger/findings/{name}.json", dict(found))


def _tell(verdict: Verdict, dry_run: bool) -> None:
    named = f"Cluster {verdict.cluster_id} of token {verdict.token}"
    if not verdict.ends:
        log.info("%s is wanted", named)
        return
    fate = "would be terminated" if dry_run else "is terminated"
    log.warning("%s %s: %s", named, fate, "; ".join(verdict.reasons))


@contextmanager
def _noted(what: str, problems: list[str]) -> Iterator[None]:
    """Let a failure of AWS or of what is kept there be one of the *problems*, and go on."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, FruitsError, ValueError, TypeError, KeyError) as error:
        problems.append(f"{what}: {error}")


def main(arguments: list[str] | None = None) -> int:
    """Look once; 0 if every cluster of ours could be guarded, 1 if not."""
    from botocore.exceptions import BotoCoreError, ClientError

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
        found = watch(load_guard_settings(), dry_run=options.dry_run)
    except (WatchdogError, SettingsError, BotoCoreError, ClientError) as error:
        log.warning("%s", error)
        return 1
    log.info(
        "%d live clusters of ours, %d terminated, %d promises settled%s",
        found["ours"],
        len(found["terminated"]),
        len(found["settled"]),
        " (dry run)" if found["dry_run"] else "",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
