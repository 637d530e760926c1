"""What each task of a batch does: settings and small values in, a small JSON-able answer out.

The DAG calls these, a task each; the shell command calls them in the same order. Heavy libraries
are imported inside, so that a DAG file may import this module.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fruits.batches import Attempt, Batch
from fruits.clusters import cluster_roles, run_job_flow_request
from fruits.costs import check_age, check_cap, cost, read_prices
from fruits.settings import Settings
from fruits.steps import StagedJobs, featurize_step, pca_step

log = logging.getLogger(__name__)


def sense_changes(settings: Settings, batch_id: str) -> dict[str, Any]:
    """Write the batch's manifest; return its counts, the feature model, and what there is to do.

    *featurize*: something is new or replaced. *reduce*: components are to be made, after new
    features or because an earlier run failed before it made them. *remove*: rows have to go.
    """
    from fruits.commits import components_are_behind
    from fruits.discovery import sense
    from fruits.lake import ensure_tables, open_catalog
    from fruits.weights import resolve_weights

    weights = resolve_weights(settings.backbone, settings.weights, settings.cache_folder)
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
    """Delete the rows of images that are gone; return how many rows went from each table."""
    from fruits.commits import commit_removals
    from fruits.lake import open_catalog

    if not found["remove"]:
        return {"features": 0, "quarantine": 0, "components": 0}
    removals = commit_removals(
        open_catalog(),
        Batch(settings.lake, found["batch"]).manifest,
        max_removed_share=settings.max_removed_share,
        confirmed=settings.confirm_removals,
    )
    return asdict(removals)


def stage(settings: Settings) -> dict[str, str]:
    """Upload what the cluster runs, where it is missing; return the URIs."""
    from fruits.staging import stage_jobs
    from fruits.weights import resolve_weights

    weights = resolve_weights(settings.backbone, settings.weights, settings.cache_folder)
    staged = stage_jobs(
        settings.lake, settings.region, weights, settings.backbone, engine=settings.engine
    )
    return asdict(staged)


def reserve(settings: Settings, token: str, staged: dict[str, str]) -> dict[str, Any]:
    """Promise a cluster for *token*: check its worst case against the caps, grant the lease.

    The answer has RunJobFlow's parameters, so that no cluster is created unchecked.

    Raises CostCapError, with the arithmetic, OldPricesError or UnknownPriceError.
    """
    from fruits.leases import grant_lease

    now = datetime.now(UTC)
    prices = read_prices(settings.region)
    check_age(prices, now.date(), settings.prices_max_age_days)
    worst_case = cost(cluster_roles(settings), settings.cap_minutes, prices)
    log.info("At the worst this cluster costs:\n%s", worst_case)
    check_cap(worst_case, settings.cap_money)
    lease = grant_lease(
        settings.lake,
        token,
        minutes=settings.lease_minutes,
        worst_case=worst_case.amount,
        currency=worst_case.currency,
    )
    return {
        "token": token,
        "generation": lease.generation,
        "worst_case": round(worst_case.amount, 4),
        "currency": worst_case.currency,
        "request": run_job_flow_request(settings, StagedJobs(**staged), token, token),
    }


def featurize_request(
    settings: Settings, staged: dict[str, str], attempt: Attempt, feature_model: str
) -> dict[str, Any]:
    """Return the featurize step."""
    return featurize_step(settings, StagedJobs(**staged), attempt, feature_model)


def pca_request(
    settings: Settings, staged: dict[str, str], attempt: Attempt, feature_model: str
) -> dict[str, Any]:
    """Write down which features there are now, and return the PCA step that reads them."""
    from fruits.lake import open_catalog, write_pca_input

    write_pca_input(open_catalog(), feature_model, f"{attempt.work('pca')}/features.json")
    return pca_step(settings, StagedJobs(**staged), attempt)


def commit_features(settings: Settings, batch_id: str, attempt_name: str) -> dict[str, Any]:
    """Commit what the featurize step wrote, once it is proven complete."""
    from fruits import commits
    from fruits.lake import open_catalog

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
        "warnings": list(fitted.warnings),
    }


def terminate(settings: Settings, token: str) -> dict[str, Any]:
    """End every cluster of *token*, confirm it, end the lease; return lifetimes (s) and cost."""
    from fruits.leases import end_lease
    from fruits.lifecycle import emr_client, find_clusters, lifetime, terminate_cluster

    client = emr_client(settings.region)
    ended = [
        terminate_cluster(client, cluster_id, poll=min(settings.poll_seconds, 15))
        for cluster_id in find_clusters(client, token)
    ]
    end_lease(settings.lake, token)
    seconds = [lifetime(cluster) for cluster in ended]
    prices, roles = read_prices(settings.region), cluster_roles(settings)
    spent = sum(cost(roles, lived / 60, prices).amount for lived in seconds)
    for cluster, lived in zip(ended, seconds, strict=True):
        log.info("Cluster %s ended after %.0f s", cluster["Id"], lived)
    return {
        "clusters": [cluster["Id"] for cluster in ended],
        "seconds": round(sum(seconds), 1),
        "cost": round(spent, 4),
        "currency": prices.currency,
    }
