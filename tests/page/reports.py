"""Reports for the pictures: of a batch that went well, and of one full of broken images."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import numpy as np
from pyiceberg.catalog import Catalog

from fruits.batch_reports import gather, render
from fruits.clusters import TOKEN_TAG
from fruits.commits import commit_features
from fruits.component_commits import commit_components
from fruits.reports import RunFacts, run_row
from fruits.settings import Settings
from tests.fruits.emr_support import cluster_state, request, step, until
from tests.fruits.lake_support import featurized, manifest_uri, put, reduced, sensed
from tests.page.scenes import LABELS, MODEL, PROMISE, add_model

NOW = datetime.now(UTC).replace(microsecond=0)
BATCH = f"{NOW:%Y%m%dT%H%M%S}-1a2b3c4d"
IMAGES = {label: 40 + 20 * (index % 4) for index, label in enumerate(LABELS)}
TASKS = (
    "sense_changes",
    "commit_removals",
    "any_to_process",
    "stage_jobs",
    "reserve_cluster",
    "create_cluster",
    "await_cluster",
    "featurize",
    "commit_features",
    "pca",
    "commit_components",
    "terminate_cluster",
)


def good_report(settings: Settings) -> str:
    """Return the report of a batch of which three images are broken."""
    catalog = _catalog()
    broken = [f"Kiwi/{number:04}.jpg" for number in (3, 11, 12)]
    result = _arrive(catalog, broken)
    done = commit_features(catalog, manifest_uri(BATCH), result)
    version = f"{BATCH}-1.1"
    _components(catalog)
    add_model(version, n_images=done.features)
    answers = {
        "commit_features": {
            "features": done.features,
            "quarantined": done.quarantined,
            "reasons": done.reasons,
        },
        "commit_components": {
            "model_version": version,
            "k": 66,
            "explained_variance_kept": 0.951,
            "fitted": True,
            "reason": "the current version keeps 94.2% of all images' variance, wanted are 95.0%",
            "projected": done.features,
        },
    }
    return _report(settings, dict.fromkeys(TASKS, "success"), answers)


def bad_report(settings: Settings) -> str:
    """Return the report of a batch that was refused: a fifth of it is broken."""
    broken = [f"{label}/{number:04}.jpg" for label in LABELS[:4] for number in range(60)]
    broken += ["Kiwi/<b>holiday</b> \u202egpj.0042.jpg"]
    _arrive(_catalog(), broken)
    late = TASKS.index("commit_features")
    states = dict.fromkeys(TASKS[:late], "success") | dict.fromkeys(TASKS[late:], "upstream_failed")
    states |= {"commit_features": "failed", "terminate_cluster": "success"}
    return _report(settings, states, {"commit_features": None})


def _catalog() -> Catalog:
    from fruits.lake import ensure_tables, open_catalog

    ensure_tables(open_catalog())
    return open_catalog()


def _arrive(catalog: Catalog, broken: list[str]) -> str:
    """Let images come in, and featurize them; return result.json's URI."""
    for label, count in IMAGES.items():
        for number in range(count):
            put(f"{label}/{number:04}.jpg")
    for key in broken:
        put(key)
    sensed(catalog, BATCH)
    seconds = {"prepare": 2.1, "featurize": 41.7, "total": 46.2}
    versions = {
        "python": "3.11.9",
        "pyspark": "4.1.1",
        "pillow": "13.0.0",
        "ai-edge-litert": "2.3.0",
    }
    return featurized(
        BATCH,
        "1.1",
        broken=broken,
        edit_result=lambda told: told.update(seconds=seconds, versions=versions),
    )


def _components(catalog: Catalog) -> None:
    """Commit components that lie in clouds, one for each label."""
    random = np.random.default_rng(3)
    centres = {label: random.uniform(-8, 8, 2) for label in LABELS}

    def spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            row["components"] = random.normal(centres[row["label"]], (1.2, 0.8)).tolist()
        return rows

    commit_components(catalog, reduced(catalog, BATCH, "1.1", edit=spread))


def _cluster(settings: Settings) -> str:
    """Let a cluster run two short steps and end; return its id."""
    emr = boto3.client("emr", region_name=settings.region)
    steps = [
        step(f"sleep {long}", f"{name} {BATCH} 1.1")
        for name, long in (("featurize", 4), ("pca", 2))
    ]
    asked = request(BATCH, Steps=steps, Tags=[{"Key": TOKEN_TAG, "Value": BATCH}])
    asked["Instances"]["KeepJobFlowAliveWhenNoSteps"] = False
    cluster_id: str = emr.run_job_flow(**asked)["JobFlowId"]
    until(lambda: cluster_state(emr, cluster_id) == "TERMINATED", 90)
    return cluster_id


def _lived(settings: Settings, cluster_id: str) -> float:
    """Return the seconds between the cluster's creation and its end."""
    emr = boto3.client("emr", region_name=settings.region)
    times = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]["Timeline"]
    return float((times["EndDateTime"] - times["CreationDateTime"]).total_seconds())


def _report(settings: Settings, states: dict[str, str], answers: dict[str, Any]) -> str:
    cluster_id = _cluster(settings)
    added = sum(IMAGES.values())
    counts = {"listed": 90_483, "added": added, "unchanged": 90_483 - added, "replaced": 11}
    # The minute that is the least AWS asks for.
    cost = {"clusters": [cluster_id], "promised": PROMISE, "cost": 0.02}
    cost["seconds"] = _lived(settings, cluster_id)
    known = {
        "sense_changes": {"counts": counts, "feature_model": MODEL},
        "reserve_cluster": {"worst_case": PROMISE, "currency": "USD"},
        "create_cluster": cluster_id,
        "featurize": {"step_id": "s-1", "attempt": "1.1"},
        "terminate_cluster": cost,
    }
    run_id = f"scheduled__{NOW:%Y-%m-%dT%H:%M:%S}+00:00"
    started = datetime.now(UTC) - timedelta(seconds=25)
    facts = RunFacts(BATCH, run_id, NOW, states, known | answers, started_at=started)
    return render(gather(facts, settings, run_row(facts, settings, datetime.now(UTC))))
