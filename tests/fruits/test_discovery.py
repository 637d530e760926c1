"""Sensing: the manifest says exactly what sets the bucket apart from the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog

from fruits.cluster_sizing import Load
from fruits.commits import commit_features, commit_removals
from fruits.discovery import Comparison
from fruits.errors import WrongBucketError
from fruits.lake import open_table
from fruits.listing import OBJECTS
from fruits.manifests import read_manifest
from fruits.objects import read_json
from fruits.scratch import scratch
from tests.fruits.lake_support import (
    BUCKET,
    LAKE,
    MODEL,
    OTHER_MODEL,
    delete,
    featurized,
    listed,
    manifest_uri,
    put,
    sensed,
)

KEYS = ["Apple/1.jpg", "Apple/2.JPEG", "Banana/3.png", "App.webp", "deep/er/4.tiff"]


def committed(catalog: Catalog, batch: str, **options) -> None:
    model = options.get("model", MODEL)
    sensed(catalog, batch, model=model)
    commit_removals(catalog, manifest_uri(batch), confirmed=True)
    commit_features(
        catalog, manifest_uri(batch), featurized(batch, **options), max_quarantine_share=1
    )


def by_key(batch: str, name: str) -> dict[str, str]:
    return {row["image_key"]: row.get("reason", row["etag"]) for row in listed(batch, name)}


def test_everything_is_new_to_an_empty_lake(catalog: Catalog) -> None:
    """The manifest lists each image with label, raw URI, etag, size and time, sorted by label."""
    for key in KEYS:
        put(key)

    changes = sensed(catalog, "b1")

    rows = listed("b1", "added")
    assert [row["image_key"] for row in rows] == [
        "App.webp",
        "Apple/1.jpg",
        "Apple/2.JPEG",
        "Banana/3.png",
        "deep/er/4.tiff",
    ]
    assert [row["label"] for row in rows] == ["", "Apple", "Apple", "Banana", "er"]
    assert all(row["image_uri"] == f"s3://{BUCKET}/{row['image_key']}" for row in rows)
    assert (changes.counts.listed, changes.counts.added) == (5, 5)
    assert changes.added_bytes == sum(row["size_bytes"] for row in rows)
    assert listed("b1", "removed") == []


def test_an_empty_prefix_changes_nothing_in_an_empty_lake(catalog: Catalog) -> None:
    """No images and no rows: no change."""
    counts = sensed(catalog, "b1").counts

    assert (counts.added, counts.deleted, counts.replaced) == (0, 0, 0)


def test_objects_that_are_no_images_are_counted_by_extension(catalog: Catalog) -> None:
    """They are ignored, whatever the case of their extension; nothing of them is in the lists."""
    for key in (*KEYS, "Apple/readme.txt", "Apple/.DS_Store", "b/X.TXT", "noextension", "a.jpg.md"):
        put(key)

    changes = sensed(catalog, "b1")

    assert (changes.counts.listed, changes.counts.ignored) == (5, 5)
    assert read_manifest(manifest_uri("b1")).ignored_extensions == {
        ".txt": 2,
        "(none)": 1,
        ".ds_store": 1,
        ".md": 1,
    }


def test_only_what_is_under_the_prefix_is_compared(catalog: Catalog) -> None:
    """Rows outside the string prefix are neither known nor missing."""
    for key in KEYS:
        put(key)
    committed(catalog, "b1")
    delete("Apple/1.jpg")
    delete("Banana/3.png")

    changes = sensed(catalog, "b2", prefix="App")

    assert by_key("b2", "removed") == {"Apple/1.jpg": "deleted"}
    assert (changes.counts.listed, changes.rows_under_prefix) == (2, 3)


def test_the_oldest_come_first_and_the_rest_waits(catalog: Catalog) -> None:
    """max_images takes the oldest; what a deferred version replaces is not removed."""
    for key in KEYS:
        put(key)
    committed(catalog, "b1")
    put("Apple/1.jpg", "newer")
    put("Zoo/new.jpg")

    changes = sensed(catalog, "b2", max_images=1)

    assert (changes.counts.added, changes.counts.deferred, changes.counts.replaced) == (1, 1, 1)
    assert list(by_key("b2", "added")) == ["Apple/1.jpg"]
    assert by_key("b2", "removed") == {"Apple/1.jpg": "replaced"}
    put("Apple/1.jpg", "newest of all")
    assert sensed(catalog, "b3", max_images=1).counts.deferred == 1
    assert list(by_key("b3", "added")) == ["Zoo/new.jpg"]
    assert by_key("b3", "removed") == {}


def test_what_would_not_end_in_time_waits_too(catalog: Catalog) -> None:
    """Work cuts as a number does: the oldest stay, one at least, and nothing older is removed."""
    for key in KEYS:
        put(key)
    committed(catalog, "b1")
    put("Apple/1.jpg", "newer")
    put("Banana/3.png", "newer")
    put("Zoo/new.jpg")
    delete("App.webp")

    two = sensed(catalog, "b2", max_inferences=2.5).counts
    found = by_key("b2", "removed")
    one = sensed(catalog, "b3", max_inferences=0.001).counts

    assert (two.added, two.deferred, two.replaced, two.deleted) == (2, 1, 2, 1)
    assert list(by_key("b2", "added")) == ["Apple/1.jpg", "Banana/3.png"]
    assert found["App.webp"] == "deleted"
    assert (one.added, one.deferred, one.replaced, one.deleted) == (1, 2, 1, 1)
    assert sensed(catalog, "b4", max_images=1, max_inferences=9).counts.deferred == 2
    assert sensed(catalog, "b5", max_inferences=9).counts.deferred == 0


def test_what_a_reprocess_or_a_retry_leaves_is_left_for_its_next_run(catalog: Catalog) -> None:
    """They are repeated: what was cut is neither added, nor removed, nor out of quarantine."""
    for key in KEYS:
        put(key)
    committed(catalog, "b1", broken=["Apple/1.jpg", "Banana/3.png"])

    beside = sensed(catalog, "b2", model=OTHER_MODEL, beside=True, max_inferences=2.5).counts
    commit_features(catalog, manifest_uri("b2"), featurized("b2", model=OTHER_MODEL))
    rest = sensed(catalog, "b3", model=OTHER_MODEL, beside=True, max_inferences=2.5).counts
    retried = sensed(catalog, "b4", retry_quarantined=True, max_inferences=1.5).counts

    assert (beside.added, beside.deferred) == (2, 1)
    assert (rest.added, rest.deferred) == (1, 0)
    assert (retried.added, retried.deferred, retried.retried) == (1, 1, 1)
    assert by_key("b4", "removed") == {"Apple/1.jpg": "retried"}


def test_quarantined_images_are_not_seen_again(catalog: Catalog) -> None:
    """Broken bytes are broken for every feature model; other bytes get another try."""
    for key in KEYS:
        put(key)
    committed(catalog, "b1", broken=["Apple/1.jpg", "Banana/3.png"])
    put("Banana/3.png", "repaired")

    sensed(catalog, "b2")
    sensed(catalog, "b3", model=OTHER_MODEL)

    assert list(by_key("b2", "added")) == ["Banana/3.png"]
    assert by_key("b2", "removed") == {"Banana/3.png": "replaced"}
    assert set(by_key("b3", "added")) == set(KEYS) - {"Apple/1.jpg"}


def test_every_feature_model_sees_an_image_go(catalog: Catalog) -> None:
    """Sensing with one model lists versions that only another model's rows still hold."""
    for key in KEYS:
        put(key)
    committed(catalog, "b1")
    delete("Apple/1.jpg")

    sensed(catalog, "b2", model=OTHER_MODEL)

    assert by_key("b2", "removed") == {"Apple/1.jpg": "deleted"}
    assert set(by_key("b2", "added")) == set(KEYS) - {"Apple/1.jpg"}


def test_a_model_beside_looks_at_its_own_rows(catalog: Catalog) -> None:
    """It adds what it has not seen, replaces its own old versions, and removes nothing else."""
    for key in KEYS:
        put(key)
    committed(catalog, "b1", broken=["Banana/3.png"])
    put("Apple/1.jpg", "newer than the current model's row")
    first = sensed(catalog, "b2", model=OTHER_MODEL, beside=True)
    found = by_key("b2", "added"), by_key("b2", "removed")
    commit_features(catalog, manifest_uri("b2"), featurized("b2", model=OTHER_MODEL))
    put("Apple/1.jpg", "newest")
    delete("Apple/2.JPEG")

    again = sensed(catalog, "b3", model=OTHER_MODEL, beside=True)

    assert (set(found[0]), found[1]) == (set(KEYS) - {"Banana/3.png"}, {})
    assert (first.counts.deleted, first.counts.replaced) == (0, 0)
    assert list(by_key("b3", "added")) == ["Apple/1.jpg"]
    assert by_key("b3", "removed") == {"Apple/1.jpg": "replaced"}
    assert (again.counts.deleted, again.counts.replaced) == (0, 1)
    assert read_manifest(manifest_uri("b3")).beside


def test_quarantined_images_are_tried_again_on_request(catalog: Catalog) -> None:
    """What is still listed, under the prefix, is added; its row is to go; the rest is as ever."""
    for key in KEYS:
        put(key)
    committed(catalog, "b1", broken=["Apple/1.jpg", "Apple/2.JPEG", "Banana/3.png"])
    put("Apple/2.JPEG", "repaired")
    delete("Banana/3.png")

    changes = sensed(catalog, "b2", prefix="Apple/", retry_quarantined=True)
    narrow = by_key("b2", "removed")
    sensed(catalog, "b3", prefix="deep", retry_quarantined=True)

    assert set(by_key("b2", "added")) == {"Apple/1.jpg", "Apple/2.JPEG"}
    assert narrow == {"Apple/1.jpg": "retried", "Apple/2.JPEG": "replaced"}
    assert (changes.counts.retried, changes.counts.replaced) == (1, 1)
    assert by_key("b3", "added") == {}


def test_sensing_again_writes_the_same_manifest(catalog: Catalog) -> None:
    """A retry overwrites the manifest of its batch with the same lists."""
    for key in KEYS:
        put(key)
    sensed(catalog, "b1")
    first = read_json(f"{manifest_uri('b1')}/manifest.json")

    sensed(catalog, "b1")

    again = read_json(f"{manifest_uri('b1')}/manifest.json")
    assert first | {"created_at": None} == again | {"created_at": None}
    assert set(first["counts"]) == {
        "listed",
        "unchanged",
        "added",
        "replaced",
        "deleted",
        "ignored",
        "deferred",
        "retried",
    }


def test_another_bucket_is_refused(catalog: Catalog) -> None:
    """Keys are unique within a bucket only, so a lake describes one bucket."""
    from fruits.discovery import sense

    put("Apple/1.jpg")
    committed(catalog, "b1")
    assert open_table("features", catalog).properties["fruits.images-bucket"] == BUCKET

    with pytest.raises(WrongBucketError, match="lake of its own"):
        sense(
            catalog,
            images_uri="s3://other-images/",
            manifest_uri=f"{LAKE}/manifests/b2",
            batch="b2",
            feature_model=MODEL,
        )


# --- the diff itself, against a model in plain Python -------------------------------------------

START = datetime(2026, 11, 21, tzinfo=UTC)
names = st.sampled_from([f"{label}/{n}.jpg" for label in ("a", "b'", "ü\n") for n in range(3)])
etags = st.sampled_from(["e1", "e2", "e3"])
objects = st.dictionaries(names, st.tuples(etags, st.integers(0, 3)))
rows = st.lists(st.tuples(names, etags, st.booleans()), max_size=12)


def object_batch(objects: Iterable[tuple[str, str, datetime]]) -> pa.RecordBatch:
    rows = [
        {"image_key": key, "etag": etag, "size_bytes": 1, "last_modified": at}
        for key, etag, at in objects
    ]
    return pa.RecordBatch.from_pylist(rows, OBJECTS)


@settings(max_examples=60)
@given(objects=objects, rows=rows, max_images=st.none() | st.integers(0, 4))
def test_the_diff_equals_a_brute_force_one(objects, rows, max_images) -> None:
    """added, removed and every count equal what sets of pairs say, for any bucket and tables."""
    versions = {(key, etag) for key, (etag, _) in objects.items()}
    processed = {(key, etag) for key, etag, done in rows if done}
    known = {(key, etag) for key, etag, _ in rows}
    fresh = sorted(
        (pair for pair in versions if pair not in processed),
        key=lambda pair: (objects[pair[0]][1], pair[0]),
    )
    added = set(fresh[:max_images])
    deferred = {key for key, _ in fresh} - {key for key, _ in added}
    removed = {
        (key, etag, "replaced" if key in objects else "deleted")
        for key, etag in known - versions
        if key not in deferred
    }

    with scratch() as space:
        comparison = Comparison(space, MODEL)
        listing = [(key, etag, START + timedelta(days=n)) for key, (etag, n) in objects.items()]
        comparison.add("", object_batch(listing))
        for done in (True, False):
            pairs = [{"image_key": k, "etag": e} for k, e, is_done in rows if is_done is done]
            schema = pa.schema([("image_key", pa.string()), ("etag", pa.string())])
            comparison.add_known([pa.RecordBatch.from_pylist(pairs, schema)], processed=done)
        comparison.compare(BUCKET, max_images)
        found_added = [row for batch in comparison.added() for row in batch.to_pylist()]
        found_removed = [row for batch in comparison.removed() for row in batch.to_pylist()]
        counts = comparison.counts()

    order = [(row["label"], row["image_key"]) for row in found_added]
    assert order == sorted(order, key=lambda pair: tuple(part.encode() for part in pair))
    assert {(row["image_key"], row["etag"]) for row in found_added} == added
    assert len(found_added) == len(added)
    assert {(r["image_key"], r["etag"], r["reason"]) for r in found_removed} == removed
    assert len(found_removed) == len(removed)
    assert counts.listed == len(objects) == counts.unchanged + counts.added + counts.deferred
    assert (counts.added, counts.deferred) == (len(added), len(deferred))
    reasons = [reason for _, _, reason in removed]
    assert (counts.replaced, counts.deleted) == (
        reasons.count("replaced"),
        reasons.count("deleted"),
    )


sizes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**12)), max_size=12)


@settings(max_examples=60)
@given(
    images=sizes,
    max_images=st.none() | st.integers(1, 8),
    max_inferences=st.floats(0.001, 1e7),
)
def test_a_cut_batch_fits_and_is_the_oldest(images, max_images, max_inferences) -> None:
    """It has as many of the oldest as both limits allow; the others are deferred."""
    order = sorted(range(len(images)), key=lambda number: (images[number][0], number))
    with scratch() as space:
        comparison = Comparison(space, MODEL)
        rows = [
            (f"a/{number:02}.jpg", "etag", START + timedelta(days=day), size)
            for number, (day, size) in enumerate(images)
        ]
        names = ("image_key", "etag", "last_modified", "size_bytes")
        pairs = [dict(zip(names, row, strict=True)) for row in rows]
        comparison.add("", pa.RecordBatch.from_pylist(pairs, OBJECTS))
        comparison.compare(BUCKET, max_images, max_inferences=max_inferences)
        found = [row["image_key"] for batch in comparison.added() for row in batch.to_pylist()]
        counts, size = comparison.counts(), comparison.added_bytes()

    works = [Load(n, sum(images[i][1] for i in order[:n])).inferences for n in range(1, 13)]
    most = min(len(images), max_images or len(images))
    fitting = sum(work <= max_inferences for work in works[:most])
    assert counts.added == len(found) == min(most, max(1, fitting))
    assert found == sorted(f"a/{number:02}.jpg" for number in order[: counts.added])
    assert counts.added + counts.deferred == len(images)
    assert counts.added <= 1 or Load(counts.added, size).inferences <= max_inferences


def test_a_million_keys_are_compared_in_bounded_memory() -> None:
    """A listing of a million keys costs the process less than 300 MB: the database spills."""
    script = Path(__file__).with_name("million_keys.py")

    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=environment()
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"]["listed"] == 1_000_000
    assert found["counts"]["added"] == 190_000
    assert found["counts"]["replaced"] == 90_000
    assert found["counts"]["deleted"] == 100_000
    assert found["grown_mb"] < 300


def environment() -> dict[str, str]:
    """Return an environment in which a child imports what this process imports."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
