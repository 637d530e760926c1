"""Lakes in a known state for the page and the report: empty, busy, failing; and how to fill them.

They are made with the library's own writers, over a real S3 and a real EMR endpoint. The pictures
in the documentation show them, the tests and the benchmark read them.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3

from fruits.batches import Batch, batch_id
from fruits.clusters import CAP_TAG, GENERATION_TAG, TOKEN_TAG
from fruits.lake import (
    FEATURE_MODEL,
    MODEL_VERSIONS,
    SCHEMAS,
    ensure_tables,
    open_catalog,
    open_table,
)
from fruits.leases import Lease, grant_lease
from fruits.ledger import Charge, Entry, entry_uri, settle
from fruits.looks import look_uri
from fruits.manifests import Counts
from fruits.objects import write_json
from fruits.runs import record_runs
from fruits.scatters import Scatter, write_scatter
from fruits.sensings import remember_sensing
from fruits.settings import Settings
from tests.fruits.emr_support import request, step

LAKE = "s3://fruits-lake"
MODEL = "MobileNetV2-224-bilinear-v2-715706dbcc4b"
OTHER_MODEL = "ResNet50-224-bilinear-v2-0123456789ab"
# A worker needs so long to start and to featurize 5,480 photographs of 2 MB.
BUSY_FOR = timedelta(minutes=9)
LABELS = ("Apricot", "Avocado", "Banana", "Cherry", "Kiwi", "Lemon", "Mango", "Orange", "Pear")
K = 66
# What a batch of these sizes is promised, a cluster of one worker, and the cap of a thrifty month.
PROMISE = 1.76
MONTH_CAP = 12


def now() -> datetime:
    """Return this second: tests run long after this module was imported."""
    return datetime.now(UTC).replace(microsecond=0)


def run_row(days_ago: float, **more: Any) -> dict[str, Any]:
    """Return the row of a batch that went well, so many days ago; *more* overrides."""
    random_ = random.Random(f"{days_ago}")
    after = now() - timedelta(days=days_ago)
    run_id = f"scheduled__{after:%Y-%m-%dT%H:%M:%S}+00:00"
    batch = batch_id(after, run_id, LAKE)
    added = random_.randint(180, 940)
    # A cluster takes its time to start; without one there is little to do.
    minutes = 14 + random_.random() * 6 if more.get("cluster_id", True) else 4.2
    known = {
        "batch": batch,
        "run_id": run_id,
        "outcome": "success",
        "failed_tasks": "",
        "images_uri": "s3://fruits-images/",
        "run_after": after,
        "started_at": after + timedelta(seconds=2),
        "reported_at": after + timedelta(minutes=minutes),
        "listed": 90_000,
        "unchanged": 90_000 - added,
        "added": added,
        "features": added - more.get("quarantined", 0),
        "quarantine_reasons": "{}",
        "feature_model": MODEL,
        "model_version": f"{batch}-1.1",
        "k": K,
        "explained_variance_kept": 0.951,
        "cluster_id": f"j-{hashlib.sha256(batch.encode()).hexdigest()[:13].upper()}",
        "cluster_seconds": 780.0,
        "worst_case": PROMISE,
        "actual_cost": round(0.15 + random_.random() / 25, 4),
        "currency": "USD",
    }
    counted = dict.fromkeys(
        ("replaced", "deleted", "ignored", "deferred", "quarantined", "changed"), 0
    )
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["runs"].column_names)
    return empty | counted | {"features_removed": 0} | known | more


def history(days: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of as many days, the oldest first, with a few days unlike the others."""
    for day in range(days, 0, -1):
        match day % 11:
            case 3:
                some = {
                    "quarantined": 7,
                    "quarantine_reasons": '{"truncated": 5, "not_an_image": 2}',
                }
                yield run_row(day, **some)
            case 7:
                yield run_row(
                    day, added=0, features=0, deleted=12, cluster_id=None, worst_case=None
                )
            case _:
                yield run_row(day)


def add_runs(*rows: dict[str, Any]) -> None:
    """Write rows of `runs`, all at once."""
    record_runs(rows)


def add_model(model_version: str, *, current: bool = True, **more: Any) -> None:
    """Write a model version's model.json and its sample of images."""
    weights = [math.exp(-index / 20.8) + 0.0005 for index in range(400)]
    ratios = [weight / sum(weights) for weight in weights][:K]
    described = {
        "model_version": model_version,
        "n_images": 90_483,
        "n_features": 1280,
        "k": K,
        "variance_target": 0.95,
        "variance_target_met": True,
        "explained_variance_ratio": ratios,
        "explained_variance_kept": sum(ratios),
        "feature_model": MODEL,
        "features_snapshot_id": 1,
        "scaler": "none",
        "created_at": f"{now() - timedelta(hours=23.8):%Y-%m-%dT%H:%M:%S}+00:00",
        "warnings": [],
    }
    folder = f"{LAKE}/models/pca/{model_version}"
    write_json(f"{folder}/model.json", described | more)
    write_scatter(folder, scatter(model_version))
    if current:
        make_current(model_version, MODEL)


def make_current(model_version: str, feature_model: str) -> None:
    """Let the tables say that the version is the newest of *feature_model*, the current one."""
    catalog = open_catalog()
    ensure_tables(catalog)
    versions = json.dumps([[model_version, feature_model]])
    for name, properties in (
        ("features", {FEATURE_MODEL: feature_model}),
        ("components", {MODEL_VERSIONS: versions}),
    ):
        with open_table(name, catalog).transaction() as transaction:
            transaction.set_properties(properties)


def scatter(model_version: str, points: int = 1500) -> Scatter:
    """Return a sample of images in clouds, one for each label."""
    random_ = random.Random(1)
    labels = (*LABELS[:7], "other labels")
    centres = [(random_.uniform(-9, 9), random_.uniform(-7, 7)) for _ in labels]
    drawn = tuple(
        (
            round(random_.gauss(centres[index % 8][0], 1.3), 3),
            round(random_.gauss(centres[index % 8][1], 0.9), 3),
            index % 8,
        )
        for index in range(points)
    )
    return Scatter(model_version, 90_483, labels, drawn)


QUALITY = {
    "reconstruction_error": 0.3127,
    "neighbours": 5,
    "sampled_images": 5000,
    "sampled_labels": 61,
    "label_accuracy_before": 0.934,
    "label_accuracy_after": 0.941,
}


def add_entry(token: str, hours_ago: float, spent: float | None) -> None:
    """Write a promise of this month into the ledger, settled if it is known what was *spent*."""
    began = now().replace(day=1, hour=0, minute=0, second=0)
    reserved = max(now() - timedelta(hours=hours_ago), began)
    entry = Entry(token, 1, PROMISE, "USD", reserved)
    told = asdict(entry) | {"reserved_at": reserved.isoformat()}
    write_json(entry_uri(LAKE, entry), told)
    if spent is not None:
        charge = Charge(f"j-{token}", 800.0, spent)
        settle(LAKE, entry, [charge], "terminate_cluster", now())


def add_sensing(batch: str, size: int = 99_000_000, **counts: int) -> None:
    """Write the last sensing, of *batch*, which found *size* bytes of new images."""
    known = Counts(
        listed=90_483, unchanged=0, added=0, replaced=0, deleted=0, ignored=3, deferred=0
    )
    counted = asdict(replace(known, **counts))
    found = {"batch": batch, "feature_model": MODEL, "counts": counted, "added_bytes": size}
    remember_sensing(LAKE, found, "s3://fruits-images/", None)


def add_look(minutes_ago: float = 4, problems: tuple[str, ...] = ()) -> None:
    """Write that the watchdog looked so many minutes ago."""
    looked_at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    write_json(look_uri(LAKE), {"looked_at": looked_at.isoformat(), "problems": list(problems)})


def start_cluster(token: str, settings: Settings) -> str:
    """Let a cluster of ours run a featurize step that takes long; return its id."""
    tags = {TOKEN_TAG: token, GENERATION_TAG: "1", CAP_TAG: "120"}
    asked = request(
        token,
        Steps=[step("sleep 600", f"featurize {token} 1.1")],
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    answer = boto3.client("emr", region_name=settings.region).run_job_flow(**asked)
    grant_lease(LAKE, Lease(token, 1, minutes=30, worst_case=PROMISE, currency="USD"))
    work = Batch(LAKE, token).numbered(1, 1).work("featurize")
    progress = {"step": "featurize", "done": 5480, "total": 12_640, "eta_seconds": 96.0}
    write_json(f"{work}/progress.json", progress)
    return str(answer["JobFlowId"])


def quiet(settings: Settings) -> None:
    """Fill the lake with a good past: nothing runs, nothing waits."""
    rows = list(history(40))
    add_runs(*rows)
    add_model(rows[-1]["model_version"], quality=QUALITY)
    for index in range(now().day):
        add_entry(f"quiet-{index:02}", 24 * index, 0.17)
    add_sensing(rows[-1]["batch"], unchanged=90_483)
    add_look()


def busy(settings: Settings) -> str:
    """Add to it a batch of photographs that is being worked on; return its cluster's id."""
    quiet(settings)
    token = batch_id(now() - BUSY_FOR, "manual__busy", LAKE)
    add_entry(token, BUSY_FOR / timedelta(hours=1), None)
    add_sensing(token, 27_800_000_000, added=12_640, unchanged=77_843)
    return start_cluster(token, settings)


def failing(settings: Settings) -> None:
    """Fill the lake with a bad month: MONTH_CAP is nearly spent, the last batch failed."""
    rows = list(history(40))
    lost = run_row(
        1.2, outcome="failed", failed_tasks="await_cluster", features=0, actual_cost=None
    )
    last = run_row(
        0.2,
        outcome="failed",
        failed_tasks="commit_features",
        added=640,
        features=0,
        quarantined=0,
        model_version=None,
        actual_cost=0.16,
    )
    add_runs(*rows, lost, last)
    add_model(
        rows[-1]["model_version"],
        variance_target=0.98,
        variance_target_met=False,
        quality=QUALITY | {"label_accuracy_after": 0.871},
    )
    for index in range(33):
        add_entry(f"failing-{index:02}", 18 * index, None if index < 4 else 0.17)
    add_sensing(last["batch"], added=640, deferred=25, ignored=2210)
    name = f"{now() - timedelta(hours=30):%Y%m%dT%H%M%SZ}-j-2AXXXXXXGAPLF"
    reasons = ["its lease of 30 min was renewed 41 min ago"]
    finding = {"cluster_id": "j-2AXXXXXXGAPLF", "token": "lost", "reasons": reasons}
    found = {"findings": [finding], "terminated": [finding["cluster_id"]]}
    write_json(f"{LAKE}/ledger/findings/{name}.json", found)
    add_look()


CHOSEN: Mapping[str, Any] = {"failing": {"month_cap_money": MONTH_CAP}}  # settings of a scene
SCENES: Mapping[str, Any] = {
    "empty": lambda settings: add_look(),
    "quiet": quiet,
    "busy": busy,
    "failing": failing,
}
