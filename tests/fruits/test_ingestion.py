"""What the tasks do together: a batch is no larger than the cluster that it gets can do in time."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from fruits import ingestion
from fruits.cluster_sizing import (
    ASSUMED_FIXED_SECONDS,
    CAP_SHARE,
    OTHER_SECONDS,
    START_SECONDS,
)
from fruits.commits import commit_features
from fruits.costs import read_prices
from fruits.ingestion import sense_changes, size_cluster
from fruits.lake import SCHEMAS
from fruits.objects import read_json
from fruits.runs import record_run
from fruits.settings import Settings
from fruits.weights import Weights, backbone_of, publish_weights
from tests.fruits.lake_support import (
    LAKE,
    MODEL,
    OTHER_MODEL,
    delete,
    featurized,
    ingest,
    ingest_and_fit,
    listed,
    manifest_uri,
    put,
)

PRICES = read_prices("eu-west-3")
KEYS = [f"Apple/{number}.jpg" for number in range(9)]


@pytest.fixture
def published(catalog: Catalog, tmp_path: Path) -> Catalog:
    """Return the catalog of an empty lake, in which weights are named that make MODEL."""
    publish(tmp_path, MODEL, "7")
    return catalog


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network be so slow that two workers do six of nine images in two hours."""
    seconds = CAP_SHARE * 7200 - START_SECONDS - ASSUMED_FIXED_SECONDS - OTHER_SECONDS
    monkeypatch.setattr("fruits.cluster_sizing.ASSUMED_RATE", 6.5 / (seconds * 16))


def publish(folder: Path, feature_model: str, digit: str) -> None:
    """Name weights in the lake that make *feature_model*."""
    file = folder / f"{feature_model}.h5"
    file.write_bytes(b"weights")
    weights = Weights(str(file), digit * 64, feature_model, "file")
    publish_weights(weights, backbone_of(feature_model), LAKE)


def measured(number: int, seconds: float, **more: Any) -> None:
    """Write down a batch that took two workers *seconds* for six images."""
    known = {
        "batch": f"measured-{number}",
        "run_after": datetime(2026, 11, number, 3, tzinfo=UTC),
        "feature_model": MODEL,
        "engine": "litert",
        "worker_instance_type": "c6i.2xlarge",
        "workers": 2,
        "worker_vcpus": 8,
        "added": 6,
        "added_bytes": 0,
        "featurize_seconds": seconds,
    }
    record_run(dict.fromkeys(SCHEMAS["runs"].column_names) | known | more)


def settings(**more: Any) -> Settings:
    """Return settings that take the weights that are published."""
    return Settings(**{"weights": "published"} | more)


def test_a_batch_is_cut_to_what_ends_in_time(
    published: Catalog, slow: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest are taken, their cluster is large enough, and the log says what takes more."""
    for key in KEYS:
        put(key)

    found = sense_changes(settings(), "b1")
    sizing = size_cluster(settings(), found, PRICES)

    counts = found["counts"]
    assert (counts["listed"], counts["added"], counts["deferred"]) == (9, 6, 3)
    assert [row["image_key"] for row in listed("b1", "added")] == KEYS[:6]
    assert (sizing.fits, sizing.workers) == (True, 2)
    (told,) = (line.message for line in caplog.records if line.levelno == logging.WARNING)
    assert "with 3 newer images it is not expected to end within 75% of the cap of 120 min" in told
    assert "raise FRUITS_WORKERS, FRUITS_CAP_MINUTES, or FRUITS_CAP_MONEY" in told


def test_the_number_of_images_cuts_as_before(
    published: Catalog, slow: None, caplog: pytest.LogCaptureFixture
) -> None:
    """What that leaves would end in time: there is nothing to warn of."""
    for key in KEYS:
        put(key)

    counts = sense_changes(settings(max_images_per_run=5), "b1")["counts"]

    assert (counts["added"], counts["deferred"]) == (5, 4)
    assert not [line for line in caplog.records if line.levelno == logging.WARNING]


def test_what_earlier_batches_took_says_how_many(published: Catalog, slow: None) -> None:
    """A batch that was twice as fast as assumed lets the next be larger."""
    for key in KEYS:
        put(key)
    measured(1, 2200.0)

    assert sense_changes(settings(), "b1")["counts"]["deferred"] == 0


def test_a_retry_finds_the_same_batch(published: Catalog, slow: None) -> None:
    """The cut follows from what is written down: the same images again."""
    for key in KEYS:
        put(key)

    sense_changes(settings(), "b1")
    first = read_json(f"{LAKE}/manifests/b1/manifest.json")
    sense_changes(settings(), "b1")

    assert first["counts"]["deferred"]
    assert read_json(f"{LAKE}/manifests/b1/manifest.json")["digest"] == first["digest"]


def test_a_batch_that_did_not_end_makes_the_next_smaller(
    published: Catalog, slow: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It committed nothing and measured nothing, but that it took longer is in its row."""
    for key in KEYS:
        put(key)
    known = {"estimated_seconds": 4400.0, "cluster_seconds": 7260.0, "failed_tasks": "featurize"}
    measured(1, 0.0, **known, outcome="failed")

    found = sense_changes(settings(), "b2")

    assert (found["counts"]["added"], found["counts"]["deferred"]) == (2, 7)
    assert size_cluster(settings(), found, PRICES).fits
    assert "assumed and lowered for 1 batch not done in time" in caplog.text


@pytest.mark.parametrize("more", [{"workers": 4}, {"cap_minutes": 240}])
def test_more_workers_or_a_longer_cap_take_more(
    published: Catalog, slow: None, more: dict[str, int]
) -> None:
    """The ways out that the log names are ways out."""
    for key in KEYS:
        put(key)
    rich = {"cap_money": 50}

    few = sense_changes(settings(**rich), "b1")["counts"]["added"]

    assert sense_changes(settings(**rich | more), "b2")["counts"]["added"] > few


def test_only_what_is_featurized_is_cut(published: Catalog, slow: None) -> None:
    """Rows of images that are gone go, however slow the network is; reducing waits for nobody."""
    ingest(published, "b1", *KEYS)
    delete(KEYS[0])

    found = sense_changes(settings(), "b2")

    assert (found["counts"]["deleted"], found["counts"]["deferred"]) == (1, 0)
    assert (found["featurize"], found["reduce"], found["remove"]) == (False, True, True)
    assert size_cluster(settings(), found, PRICES).fits


@pytest.mark.parametrize(("gone", "reduce"), [(1, True), (2, False)])
def test_what_is_removed_needs_no_components(published: Catalog, gone: int, reduce: bool) -> None:
    """Images whose pca step failed are deleted: if none is left without, no cluster is needed."""
    ingest_and_fit(published, "b1", *KEYS[:3])
    ingest(published, "b2", *KEYS[3:5])
    for key in KEYS[3 : 3 + gone]:
        delete(key)

    found = sense_changes(settings(), "b3")

    assert (found["featurize"], found["reduce"], found["remove"]) == (False, reduce, True)


def test_one_image_waits_for_a_second(published: Catalog) -> None:
    """There is nothing to fit with one: no night makes a cluster for it, and its run is green."""
    put(KEYS[0])
    first = sense_changes(settings(), "b1")
    featurized("b1")
    done = ingestion.commit_features(settings(), "b1", "1")

    quiet = sense_changes(settings(), "b2")
    put(KEYS[1])
    second = sense_changes(settings(), "b3")
    featurized("b3")

    assert (first["reduce"], done["reducible"]) == (True, False)
    assert (quiet["featurize"], quiet["reduce"]) == (False, False)
    assert second["reduce"]
    assert ingestion.commit_features(settings(), "b3", "1")["reducible"]
    assert sense_changes(settings(), "b4")["reduce"]


def test_a_reprocess_that_is_cut_is_repeated(
    published: Catalog, slow: None, tmp_path: Path
) -> None:
    """It counts what is left, and the next takes it."""
    ingest(published, "b1", *KEYS)
    publish(tmp_path, OTHER_MODEL, "0")

    found = sense_changes(settings(reprocess="ResNet50"), "b2")
    commit_features(published, manifest_uri("b2"), featurized("b2", model=OTHER_MODEL))
    rest = sense_changes(settings(reprocess="ResNet50"), "b3")

    assert found["beside"]
    assert (found["counts"]["added"], found["counts"]["deferred"]) == (6, 3)
    assert (rest["counts"]["added"], rest["counts"]["deferred"]) == (3, 0)


def test_a_cap_that_is_too_short_for_any_image_cuts_nothing(
    published: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    """One image would not end in time either: the log says how long a cap has to be."""
    for key in KEYS:
        put(key)

    found = sense_changes(settings(cap_minutes=14), "b1")
    sizing = size_cluster(settings(cap_minutes=14), found, PRICES)

    assert (found["counts"]["added"], found["counts"]["deferred"]) == (len(KEYS), 0)
    assert not sizing.fits
    assert "Not even one image is expected to end within 75% of the cap of 14 min" in caplog.text
    assert "set FRUITS_CAP_MINUTES to 15 or more" in caplog.text
    assert size_cluster(settings(cap_minutes=15), found, PRICES).fits
