"""What each task of a batch does: settings and small values in, a small JSON-able answer out.

The DAG calls these, a task each; the shell command calls them in the same order. Heavy libraries
are imported inside, so that a DAG file may import this module.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fruits.batches import Attempt, Batch
from fruits.clusters import cluster_roles, run_job_flow_request
from fruits.costs import check_age, check_cap, read_prices, worst_case
from fruits.settings import Settings
from fruits.steps import StagedJobs, featurize_step, pca_step

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_emr import EMRClient

log = logging.getLogger(__name__)


def sense_changes(settings: Settings, batch_id: str) -> dict[str, Any]:
    """Write the batch's manifest; return its counts, the feature model, and what there is to do.

    *featurize*: something is new or replaced. *reduce*: components are to be made, after new
    features or because an earlier run failed before it made them. *remove*: rows have to go.
    """
    from fruits.discovery import sense
    from fruits.lake import ensure_tables, open_catalog
    from fruits.versions import components_are_behind
    from fruits.weights import resolve_weights

    weights = resolve_weights(
        settings.backbone, settings.weights, settings.cache_folder, settings.lake
    )
    catalog = open_catalog()
    ensure_tables(catalog)
    changes = sense(
        catalog,
        images_uri=settings.images_uri,
        manifest_uri=Batch(settings.lake, batch_id).manifest,
        batch=batch_id,
        feature_model=weights.feature_model,
        max_images=settings.max_images_per_run,
    )
    featurize = bool(changes.counts.added)
    return {
        "batch": batch_id,
        "feature_model": weights.feature_model,
        "weights": asdict(weights),
        "counts": asdict(changes.counts),
        "added_bytes": changes.added_bytes,
        "featurize": featurize,
        "reduce": featurize or components_are_behind(catalog, weights.feature_model),
        "remove": bool(changes.counts.deleted or changes.counts.replaced),
    }


def remove_rows(settings: Settings, found: dict[str, Any]) -> dict[str, int]:
    """Delete the rows of images that are gone; return how many rows went from each table.

    Their part in statistics goes as well: there may be no pca step before they are needed again.
    """
    from fruits.commits import commit_removals
    from fruits.lake import open_catalog
    from fruits.statistics_entries import forget_stale_statistics

    if not found["remove"]:
        return {"features": 0, "quarantine": 0, "components": 0}
    catalog = open_catalog()
    removals = commit_removals(
        catalog,
        Batch(settings.lake, found["batch"]).manifest,
        max_removed_share=settings.max_removed_share,
        confirmed=settings.confirm_removals,
    )
    forget_stale_statistics(catalog, settings.lake)
    return asdict(removals)


def stage(settings: Settings) -> dict[str, str]:
    """Upload what the cluster runs, where it is missing; return the URIs."""
    from fruits.staging import stage_jobs
    from fruits.weights import resolve_weights

    weights = resolve_weights(
        settings.backbone, settings.weights, settings.cache_folder, settings.lake
    )
    staged = stage_jobs(
        settings.lake, settings.region, weights, settings.backbone, engine=settings.engine
    )
    return asdict(staged)


def reserve(settings: Settings, token: str, staged: dict[str, str]) -> dict[str, Any]:
    """Promise a cluster for *token*: check its worst case against the caps, grant the lease.

    The answer has RunJobFlow's parameters, so that no cluster is created unchecked. Every call is a
    new generation, charged to the month until it is settled.

    Raises CostCapError or MonthCapError, with the arithmetic, OldPricesError or UnknownPriceError.
    """
    from fruits import ledger
    from fruits.leases import Lease, grant_lease
    from fruits.objects import storage_time

    now = storage_time(settings.lake)
    prices = read_prices(settings.region)
    check_age(prices, now.date(), settings.prices_max_age_days)
    promise = worst_case(cluster_roles(settings), settings.cap_minutes, prices)
    check_cap(promise, settings.cap_money)
    generation = _next_generation(settings.lake, token, now)
    entry = ledger.Entry(token, generation, round(promise.amount, 4), promise.currency, now)
    month = ledger.reserve(settings.lake, entry, settings.month_cap_money)
    log.info("At the worst this cluster costs %s", promise)
    log.info("With it, %s comes to %.2f %s", entry.month, month, entry.currency)
    grant_lease(
        settings.lake,
        Lease(token, generation, settings.lease_minutes, entry.worst_case, entry.currency),
    )
    return {
        "token": token,
        "generation": generation,
        "worst_case": entry.worst_case,
        "currency": entry.currency,
        "month": entry.month,
        "month_so_far": round(month, 4),
        "request": run_job_flow_request(settings, StagedJobs(**staged), token, token, generation),
    }


def _next_generation(lake: str, token: str, now: datetime) -> int:
    """Return the number after the highest that the lease or the ledger knows.

    A task that was thought dead may renew an older generation's lease at this moment: a number that
    came twice would charge two clusters once and let two attempts write to the same folders.
    """
    from fruits.leases import read_lease
    from fruits.ledger import recent_entries

    lease = read_lease(lake, token)
    charged = [entry.generation for entry in recent_entries(lake, now, token)]
    return max([lease.generation if lease else 0, *charged]) + 1


def featurize_request(
    settings: Settings, staged: dict[str, str], attempt: Attempt, feature_model: str
) -> dict[str, Any]:
    """Return the featurize step."""
    return featurize_step(settings, StagedJobs(**staged), attempt, feature_model)


def pca_request(
    settings: Settings, staged: dict[str, str], attempt: Attempt, feature_model: str
) -> dict[str, Any]:
    """Write down which features there are now, and return the PCA step that reads them."""
    from fruits.lake import open_catalog
    from fruits.pca_inputs import write_pca_input

    write_pca_input(open_catalog(), feature_model, attempt.batch.models, attempt.work("pca"))
    return pca_step(settings, StagedJobs(**staged), attempt)


def commit_features(settings: Settings, batch_id: str, attempt_name: str) -> dict[str, Any]:
    """Commit what the featurize step wrote, once it is proven complete."""
    from fruits import commits
    from fruits.lake import open_catalog
    from fruits.leases import renew_lease

    renew_lease(settings.lake, batch_id)  # the cluster is wanted after this commit, too
    attempt = Batch(settings.lake, batch_id).attempt(attempt_name)
    committed = commits.commit_features(
        open_catalog(),
        attempt.batch.manifest,
        f"{attempt.work('featurize')}/result.json",
        max_quarantine_share=settings.max_quarantine_share,
        make_current=True,
    )
    return asdict(committed)


def commit_components(settings: Settings, batch_id: str, attempt_name: str) -> dict[str, Any]:
    """Commit what the PCA step wrote, and make its model version the current one."""
    from fruits import commits
    from fruits.lake import open_catalog
    from fruits.leases import renew_lease

    renew_lease(settings.lake, batch_id)
    attempt = Batch(settings.lake, batch_id).attempt(attempt_name)
    fitted = commits.commit_components(
        open_catalog(),
        f"{attempt.work('pca')}/result.json",
        keep_model_versions=settings.keep_model_versions,
    )
    return {
        "model_version": fitted.model_version,
        "k": fitted.k,
        "explained_variance_kept": fitted.explained_variance_kept,
        "fitted": fitted.fitted,
        "reason": fitted.reason,
        "quality": fitted.quality,
        "projected": sum(file.rows for file in fitted.components),
        "warnings": list(fitted.warnings),
    }


def terminate(settings: Settings, token: str) -> dict[str, Any]:
    """End every cluster of *token*, confirm it, and settle the ledger.

    The lease ends first: from then on the watchdog ends the clusters too, should this die. Returns
    the clusters, their lifetimes (s), and the promises and costs of all generations of the token;
    the cost is None if it is not known yet, which fails nothing: the watchdog settles later.
    """
    from fruits.leases import end_lease
    from fruits.lifecycle import emr_client, find_clusters, lifetime, terminate_cluster

    end_lease(settings.lake, token)
    client = emr_client(settings.region)

    def end(cluster_id: str) -> dict[str, Any] | None:
        return terminate_cluster(client, cluster_id, poll=min(settings.poll_seconds, 15))

    found = find_clusters(client, token)
    # All at once: one that does not end must not keep the others alive.
    with ThreadPoolExecutor(max_workers=max(1, len(found))) as pool:
        ended = [cluster for cluster in pool.map(end, found) if cluster]
    for cluster in ended:
        log.info("Cluster %s ended after %.0f s", cluster["Id"], lifetime(cluster))
    return {
        "clusters": [cluster["Id"] for cluster in ended],
        "seconds": round(sum(lifetime(cluster) for cluster in ended), 1),
        **_settled(settings, client, token),
    }


def _settled(settings: Settings, client: EMRClient, token: str) -> dict[str, Any]:
    """Settle what is open of *token*; return what its generations were promised and cost."""
    from fruits.ledger import recent_entries
    from fruits.objects import storage_time
    from fruits.settlements import settle_entries

    unknown: dict[str, Any] = {"promised": None, "cost": None, "currency": None}
    try:
        now, prices = storage_time(settings.lake), read_prices(settings.region)
        entries = recent_entries(settings.lake, now, token)
        settle_entries(
            client, settings.lake, entries, prices, settled_by="terminate_cluster", now=now
        )
        entries = recent_entries(settings.lake, now, token)
    except Exception:  # whatever it is: the clusters have ended, and that is what counts
        log.exception("What %s cost is not known yet: the watchdog settles it later", token)
        return unknown
    costs = [entry.spent for entry in entries if entry.spent is not None]
    return {
        "promised": round(sum(entry.worst_case for entry in entries), 4),
        "cost": round(sum(costs), 4) if len(costs) == len(entries) else None,
        "currency": prices.currency,
    }
