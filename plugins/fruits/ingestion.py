"""What each task of a batch does: settings and small values in, a small JSON-able answer out.

The DAG calls these, a task each; the shell command calls them in the same order. Heavy libraries
are imported inside, so that a DAG file may import this module.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fruits import stories
from fruits.batches import Attempt, Batch, generations_written
from fruits.cluster_sizing import (
    COLUMNS,
    Load,
    Sizing,
    Speed,
    choose_size,
    comparable,
    fit_speed,
    room,
)
from fruits.clusters import cluster_roles, run_job_flow_request
from fruits.costs import PriceTable, age_warning, check_age, check_cap, read_prices, worst_case
from fruits.settings import Settings
from fruits.steps import StagedJobs, featurize_step, pca_step
from fruits.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mypy_boto3_emr import EMRClient

log = logging.getLogger(__name__)

# As long as the DAG lets a task work.
REMOVAL_MINUTES = 120


def sense_changes(settings: Settings, batch_id: str, run_id: str | None = None) -> dict[str, Any]:
    """Write the batch's manifest; return its counts, the feature model, and what there is to do.

    *featurize*: something is new or replaced. *reduce*: components are to be made, after new
    features or because an earlier run failed before it made them. *remove*: rows have to go. The
    batch is cut to what is expected to end within the cap.
    """
    from fruits.discovery import sense
    from fruits.lake import current_feature_model, ensure_tables, open_catalog
    from fruits.networks import choose_network
    from fruits.places import require_region, require_tables
    from fruits.sensings import remember_sensing
    from fruits.versions import components_are_behind

    require_region(settings)
    catalog = open_catalog()
    ensure_tables(catalog)
    require_tables(catalog, settings.lake)
    choice = choose_network(settings, current_feature_model(catalog))
    weights = choice.weights
    manifest_uri = Batch(settings.lake, batch_id).manifest
    most = room(_speed(settings, weights.feature_model), settings, read_prices(settings.region))
    manifest = sense(
        catalog,
        images_uri=settings.images_uri,
        manifest_uri=manifest_uri,
        batch=batch_id,
        feature_model=weights.feature_model,
        max_images=settings.max_images_per_run,
        max_inferences=most.limit,
        beside=choice.beside,
        retry_quarantined=settings.retry_quarantined,
    )
    featurize = bool(manifest.counts.added)
    found = {
        "batch": batch_id,
        "feature_model": weights.feature_model,
        "weights": asdict(weights),
        "beside": choice.beside,
        "overruled": choice.overruled,
        "counts": asdict(manifest.counts),
        "added_bytes": manifest.added_bytes,
        "featurize": featurize,
        "reduce": featurize or components_are_behind(catalog, weights.feature_model, manifest_uri),
        "remove": bool(manifest.counts.deleted or manifest.counts.replaced),
    }
    if not choice.beside:  # which says nothing of what waits in the bucket
        remember_sensing(settings.lake, found, settings.images_uri, run_id)
    for line in stories.sensed(found, settings.images_uri, manifest_uri):
        log.info(line)
    if manifest.counts.deferred and manifest.counts.added < settings.max_images_per_run:
        log.warning(stories.cut(most, manifest.counts.deferred, settings))
    return found


def anything_to_compute(found: dict[str, Any]) -> bool:
    """Say whether what was *found* needs a cluster."""
    log.info(stories.to_compute(found))
    return bool(found["reduce"])


def remove_rows(settings: Settings, found: dict[str, Any]) -> dict[str, int]:
    """Delete the rows of images that are gone; return how many rows went from each table.

    Their part in statistics goes as well: there may be no pca step before they are needed again.
    Nothing can be erased meanwhile: the files that replace theirs would look like nobody's.
    """
    from fruits.commits import commit_removals
    from fruits.lake import open_catalog
    from fruits.leases import held_lease
    from fruits.statistics_entries import forget_stale_statistics

    rows = {"features": 0, "quarantine": 0, "components": 0}
    if found["remove"]:
        catalog = open_catalog()
        with held_lease(settings.lake, f"{found['batch']}-removals", REMOVAL_MINUTES):
            removals = commit_removals(
                catalog,
                Batch(settings.lake, found["batch"]).manifest,
                max_removed_share=settings.max_removed_share,
                confirmed=settings.confirm_removals,
            )
        forget_stale_statistics(catalog, settings.lake)
        rows = asdict(removals)
    log.info(stories.removed(rows))
    return rows


def stage(settings: Settings, found: dict[str, Any]) -> dict[str, str]:
    """Upload what the cluster runs for what was *found*, where it is missing; return the URIs."""
    from fruits.networks import weights_at_hand
    from fruits.staging import stage_jobs

    weights = weights_at_hand(settings, Weights(**found["weights"]))
    return asdict(stage_jobs(settings.lake, settings.region, weights, engine=settings.engine))


def require_manifest(settings: Settings, batch_id: str) -> None:
    """Raise GoneManifestError if what the batch found is not in the lake any more."""
    from fruits import manifests

    manifests.require_manifest(Batch(settings.lake, batch_id).manifest)


def reserve(
    settings: Settings,
    token: str,
    staged: dict[str, str],
    found: dict[str, Any],
    *,
    featurized: bool = False,
) -> dict[str, Any]:
    """Promise a cluster for *token*, as large as what was *found* needs; grant the lease.

    Of what is *featurized* already, PCA alone is left: the run was cleared from further down.
    Its worst case is checked against the caps. The answer has RunJobFlow's parameters, so that no
    cluster is created unchecked. Every call is a new generation, charged to the month until it is
    settled.

    Raises CostCapError or MonthCapError, with the arithmetic, OldPricesError or UnknownPriceError,
    TooLittleMemoryError of a worker type that is too small.
    """
    from fruits import ledger
    from fruits.leases import Lease, grant_lease
    from fruits.objects import storage_time

    now = storage_time(settings.lake)
    prices = read_prices(settings.region)
    check_age(prices, now.date(), settings.prices_max_age_days)
    if warning := age_warning(prices, now.date(), settings.prices_max_age_days):
        log.warning(warning)
    if featurized:
        found = found | {"counts": found["counts"] | {"added": 0}, "added_bytes": 0}
    sizing = size_cluster(settings, found, prices)
    settings = settings.model_copy(update={"workers": sizing.workers})
    promise = worst_case(cluster_roles(settings), settings.cap_minutes, prices)
    check_cap(promise, settings.cap_money)
    generation = _next_generation(settings.lake, token, now)
    # Before money is promised: it may be refused, too.
    request = run_job_flow_request(settings, StagedJobs(**staged), token, generation)
    entry = ledger.Entry(token, generation, round(promise.amount, 4), promise.currency, now)
    month = ledger.reserve(settings.lake, entry, settings.month_cap_money)
    caps = settings.month_cap_money, settings.cap_minutes
    log.info(stories.reserved(entry, month, *caps, str(promise)))
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
        # The row of `runs` would hold an earlier cluster's featurize against this one's workers.
        "sizing": None if featurized else asdict(sizing),
        "request": request,
    }


def size_cluster(settings: Settings, found: dict[str, Any], prices: PriceTable) -> Sizing:
    """Return the size of the cluster for what was *found*, by what earlier batches took."""
    load = Load(found["counts"]["added"], found["added_bytes"])
    speed = _speed(settings, found["feature_model"])
    sizing = choose_size(load, speed, settings, prices)
    log.info(stories.sized(sizing, load, settings))
    if not sizing.fits:
        log.warning(stories.too_long(room(speed, settings, prices), settings))
    return sizing


def _speed(settings: Settings, feature_model: str) -> Speed:
    runs = comparable(_earlier_runs(), settings, feature_model)
    return fit_speed(runs, settings.cap_minutes)


def _earlier_runs() -> list[dict[str, Any]]:
    """Return the rows of `runs`, the newest first; none where they cannot be read."""
    from fruits.lake import open_catalog
    from fruits.runs import read_runs

    try:
        rows: list[dict[str, Any]] = read_runs(
            open_catalog(), "run_after", "batch", *COLUMNS
        ).to_pylist()
    except Exception:  # they only make the estimate better
        log.exception("Earlier batches cannot be read: the speed is assumed")
        return []
    return [dict.fromkeys(COLUMNS) | row for row in rows]


def _next_generation(lake: str, token: str, now: datetime) -> int:
    """Return the number after the highest that the lease, the ledger or a folder knows.

    Each may be gone: a number that came twice would charge two clusters once, and let two attempts
    write to the same folders. What a run of months ago committed still lies there.
    """
    from fruits.leases import read_lease
    from fruits.ledger import recent_entries

    lease = read_lease(lake, token)
    charged = [entry.generation for entry in recent_entries(lake, now, token)]
    written = generations_written(Batch(lake, token))
    return max([lease.generation if lease else 0, *charged, *written]) + 1


def featurize_request(
    settings: Settings, staged: dict[str, str], attempt: Attempt, feature_model: str
) -> dict[str, Any]:
    """Return the featurize step, which also replaces committed data files where they are many."""
    from fruits.lake import open_catalog
    from fruits.planned_rewrites import plan_rewrites

    rewrites = f"{attempt.work('featurize')}/rewrites.parquet"
    least = settings.rewrite_megabytes * 1_000_000
    files = plan_rewrites(open_catalog(), attempt.batch.manifest, rewrites, least)
    staged_jobs = StagedJobs(**staged)
    return featurize_step(
        settings, staged_jobs, attempt, feature_model, rewrites if files else None
    )


def pca_request(
    settings: Settings, staged: dict[str, str], attempt: Attempt, feature_model: str
) -> dict[str, Any]:
    """Write down which features there are now, and return the PCA step that reads them.

    NoFeaturesError if there is nothing to reduce: no features, or a first image without a second.
    """
    from fruits.lake import open_catalog
    from fruits.pca_inputs import is_reducible, no_features, write_pca_input

    catalog = open_catalog()
    if not is_reducible(catalog, feature_model):
        raise no_features(feature_model)
    write_pca_input(catalog, feature_model, attempt.batch.models, attempt.work("pca"))
    return pca_step(settings, StagedJobs(**staged), attempt)


def commit_features(settings: Settings, batch_id: str, attempt_name: str) -> dict[str, Any]:
    """Commit what the featurize step wrote, once it is proven complete; merge small files.

    What it returns says whether there is something to reduce then: not while all that ever came in
    is in quarantine, or but one image.
    """
    from fruits import commits
    from fruits.lake import open_catalog
    from fruits.leases import renew_lease
    from fruits.manifests import read_manifest
    from fruits.merges import merge_small_files
    from fruits.pca_inputs import is_reducible

    renew_lease(settings.lake, batch_id)  # the cluster is wanted after this commit, too
    attempt, catalog = Batch(settings.lake, batch_id).attempt(attempt_name), open_catalog()
    committed = commits.commit_features(
        catalog,
        attempt.batch.manifest,
        f"{attempt.work('featurize')}/result.json",
        max_quarantine_share=settings.max_quarantine_share,
        quarantine_allowance=settings.quarantine_allowance,
    )
    merged = sum(merge_small_files(catalog, name, batch_id) for name in ("quarantine", "features"))
    reducible = committed.features > 1 or is_reducible(
        catalog, read_manifest(attempt.batch.manifest).feature_model
    )
    done = asdict(committed) | {"files_merged": merged, "reducible": reducible}
    for line in stories.committed_features(done):
        log.info(line)
    return done


def commit_components(settings: Settings, batch_id: str, attempt_name: str) -> dict[str, Any]:
    """Commit what the PCA step wrote: a new model version, or more of the one that was kept.

    Then the models of versions that are not kept any more are removed, and small files merged.
    """
    from fruits import component_commits
    from fruits.lake import open_catalog
    from fruits.leases import renew_lease
    from fruits.merges import merge_small_files
    from fruits.retired_models import remove_retired_models

    renew_lease(settings.lake, batch_id)
    attempt, catalog = Batch(settings.lake, batch_id).attempt(attempt_name), open_catalog()
    fitted = component_commits.commit_components(
        catalog,
        f"{attempt.work('pca')}/result.json",
        keep_model_versions=settings.keep_model_versions,
    )
    removed = remove_retired_models(catalog, attempt.batch.models)
    done = {
        "model_version": fitted.model_version,
        "k": fitted.k,
        "explained_variance_kept": fitted.explained_variance_kept,
        "fitted": fitted.fitted,
        "reason": fitted.reason,
        "quality": fitted.quality,
        "projected": sum(file.rows for file in fitted.components),
        "warnings": list(fitted.warnings),
        "models_removed": removed,
        "files_merged": merge_small_files(catalog, "components", batch_id),
    }
    log.info(stories.committed_components(done))
    for warning in fitted.warnings:
        log.warning(warning)
    return done


def switch_model(feature_model: str | None, *, accept_missing: bool) -> dict[str, Any]:
    """Let readers and ordinary runs go by *feature_model*, if one is given; return which there are.

    Raises UnknownModelError or IncompleteModelError: then nothing has changed.
    """
    from fruits.feature_models import feature_models, switch
    from fruits.lake import ensure_tables, open_catalog

    catalog = open_catalog()
    ensure_tables(catalog)
    if feature_model:
        switched = switch(catalog, feature_model, accept_missing=accept_missing)
        log.info(stories.switched(asdict(switched)))
    models = [asdict(model) for model in feature_models(catalog)]
    for model in models:
        log.info(stories.feature_model(model))
    return {"feature_models": models}


def terminate(settings: Settings, token: str) -> dict[str, Any]:
    """End every cluster of *token*, confirm it, and settle the ledger.

    The lease ends first: from then on the watchdog ends the clusters too, should this die. A lake
    in which that cannot be written keeps no cluster alive; it fails the task at the end. Returns
    the clusters, their lifetimes (s), and the promises and costs of all generations of the token;
    the cost is None if it is not known yet, which fails nothing: the watchdog settles later.
    """
    from fruits.leases import end_lease

    try:
        end_lease(settings.lake, token)
    finally:
        done = _end_clusters(settings, token)
    return done


def end_left_cluster(settings: Settings, token: str, states: Mapping[str, str]) -> None:
    """End what an earlier generation of *token* left, if *states* say that no teardown will.

    A run that is cleared from far up and then finds nothing to compute, or may not spend any more,
    comes to no cluster: its teardown is skipped, with the cluster of before still at work.
    """
    from fruits.leases import read_lease

    if states.get("terminate_cluster") in ("skipped", "upstream_failed"):
        lease = read_lease(settings.lake, token)
        if lease and not lease.ended:
            terminate(settings, token)


def _end_clusters(settings: Settings, token: str) -> dict[str, Any]:
    from fruits.lifecycle import emr_client, find_clusters, lifetime, terminate_cluster

    client = emr_client(settings.region)

    def end(cluster_id: str) -> dict[str, Any] | None:
        return terminate_cluster(client, cluster_id, poll=min(settings.poll_seconds, 15))

    found = find_clusters(client, token)
    # All at once: one that does not end must not keep the others alive.
    with ThreadPoolExecutor(max_workers=max(1, len(found))) as pool:
        ended = [cluster for cluster in pool.map(end, found) if cluster]
    done = {
        "clusters": [cluster["Id"] for cluster in ended],
        "seconds": round(sum(lifetime(cluster) for cluster in ended), 1),
        **_settled(settings, client, token),
    }
    log.info(stories.ended(token, done))
    return done


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
