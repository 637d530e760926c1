"""Commits upon real tables in a real S3: what goes in, what goes out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyiceberg.catalog import Catalog

from fruits.commits import Removals, commit_features, commit_removals
from fruits.component_commits import commit_components
from fruits.errors import (
    CommittedFileError,
    StaleManifestError,
    TooManyQuarantinedError,
    TooManyRemovedError,
    UnreadableTableError,
)
from fruits.lake import data_files, open_table, read
from fruits.objects import client
from fruits.versions import components_are_behind
from tests.fruits.lake_support import (
    BUCKET,
    MODEL,
    OTHER_MODEL,
    bucket_versions,
    delete,
    featurized,
    ingest,
    ingest_and_fit,
    keys,
    listed_image,
    manifest_uri,
    published,
    put,
    reduced,
    reprocess,
    sensed,
    table_rows,
    vector,
)

KEYS = [f"{label}/{number}.jpg" for label in ("Apple", "Banana") for number in range(10)]


def test_a_first_batch_is_committed(catalog: Catalog) -> None:
    """Every image of the bucket becomes one row of features and one of components."""
    for key in KEYS:
        put(key)

    ingest_and_fit(catalog, "b1")

    assert {r["image_key"]: r["etag"] for r in table_rows(catalog, "features")} == bucket_versions()
    assert all(r["features"] == vector(r["etag"]) for r in table_rows(catalog, "features"))
    assert keys(catalog, "components") == sorted(KEYS)
    assert len(read("features", catalog).to_arrow()) == len(KEYS)
    assert len(read("components", catalog).to_arrow()) == len(KEYS)
    assert not components_are_behind(catalog, MODEL)


def test_a_second_batch_swaps_exactly_what_changed(catalog: Catalog) -> None:
    """After adding, replacing and deleting, tables and bucket agree, and one snapshot did it."""
    ingest(catalog, "b1", *KEYS)
    before = table_rows(catalog, "features")
    put("Cherry/new.jpg")
    put("Apple/3.jpg", "other")
    put("Banana/3.jpg", "other")
    delete("Apple/4.jpg")
    count = len(open_table("features", catalog).metadata.snapshots)

    changes = sensed(catalog, "b2")
    removals = commit_removals(catalog, manifest_uri("b2"))
    done = commit_features(catalog, manifest_uri("b2"), featurized("b2"))

    counts = changes.counts
    assert (counts.added, counts.replaced, counts.deleted, counts.unchanged) == (3, 2, 1, 17)
    assert (removals.features, done.features, done.replaced) == (1, 3, 2)
    after = table_rows(catalog, "features")
    assert {row["image_key"]: row["etag"] for row in after} == bucket_versions()
    assert len(after) == len(KEYS)
    assert [row for row in after if row["batch"] == "b1"] == [row for row in before if row in after]
    assert len(open_table("features", catalog).metadata.snapshots) == count + 2
    assert components_are_behind(catalog, MODEL)


def pairs(catalog: Catalog, name: str) -> list[tuple[str, str]]:
    return [(row["image_key"], row["etag"]) for row in table_rows(catalog, name)]


def snapshots(catalog: Catalog) -> dict[str, int]:
    names = ("features", "quarantine", "components")
    return {name: len(open_table(name, catalog).metadata.snapshots) for name in names}


def test_swapped_contents_of_two_images_are_swapped_rows(catalog: Catalog) -> None:
    """Rows are matched by (image_key, etag): an etag that moved to another key confuses nothing."""
    put("Apple/1.jpg")
    put("Apple/2.jpg")
    first, second = (client().get_object(Bucket=BUCKET, Key=f"Apple/{n}.jpg") for n in (1, 2))
    bodies = first["Body"].read(), second["Body"].read()
    ingest(catalog, "b1")
    client().put_object(Bucket=BUCKET, Key="Apple/1.jpg", Body=bodies[1])
    client().put_object(Bucket=BUCKET, Key="Apple/2.jpg", Body=bodies[0])

    ingest(catalog, "b2")

    rows = table_rows(catalog, "features")
    assert {row["image_key"]: row["etag"] for row in rows} == bucket_versions()
    assert [row["features"] for row in rows] == [vector(row["etag"]) for row in rows]
    assert len(rows) == 2


def test_unusual_keys_leave_the_tables_too(catalog: Catalog, tmp_path: Path) -> None:
    """Quotes, percent signs, accents and newlines in keys are data, never syntax."""
    odd = ["a b/é.jpg", "a=b/50%.jpg", 'q/it\'s "so".jpg', "n/new\nline.jpg", "p/x+y'); --.jpg"]
    everything = [*odd, "a b/stays.jpg", "q/its.jpg", "n/new line.jpg"]
    added = [listed_image(key) for key in everything]
    removed = [gone(key) for key in odd]
    published("b1", tmp_path, added=added)
    commit_features(catalog, manifest_uri("b1"), featurized("b1"))
    commit_components(catalog, reduced(catalog, "b1"))
    published("b2", tmp_path, removed=removed, rows=8)

    done = commit_removals(catalog, manifest_uri("b2"), confirmed=True)

    assert (done.features, done.components) == (5, 5)
    assert keys(catalog, "features") == sorted(set(everything) - set(odd))
    assert keys(catalog, "components") == sorted(set(everything) - set(odd))


def test_thousands_of_removals_over_many_files(catalog: Catalog, tmp_path: Path) -> None:
    """5,000 spread keys go in one snapshot; rows that stay keep every bit, as do other files."""
    everything = [listed_image(f"label{n % 7}/{n:06}.jpg") for n in range(12_000)]
    everything.sort(key=lambda row: (row["label"], row["image_key"]))
    published("b1", tmp_path, added=everything)
    commit_features(catalog, manifest_uri("b1"), featurized("b1", files=7))
    before = open_table("features", catalog).scan().to_arrow()
    doomed = [row for row in everything if row["label"] != "label3"][:5000]
    published("b2", tmp_path, removed=[gone(row["image_key"]) for row in doomed], rows=12_000)
    files = {file.uri for file in data_files(open_table("features", catalog))}

    done = commit_removals(catalog, manifest_uri("b2"), confirmed=True)

    assert done == Removals(features=5000, quarantine=0, components=0)
    table = open_table("features", catalog)
    after = table.scan().to_arrow().sort_by("image_key")
    names = pa.array([row["image_key"] for row in doomed])
    expected = before.filter(pc.invert(pc.is_in(before["image_key"], names))).sort_by("image_key")
    assert after.equals(expected)
    assert len(table.metadata.snapshots) == 2
    assert files & {file.uri for file in data_files(table)}


def test_too_many_removals_need_a_confirmation(catalog: Catalog) -> None:
    """An emptied prefix removes nothing until somebody confirms; the message has the counts."""
    ingest(catalog, "b1", *KEYS)
    for key in KEYS[:3]:
        delete(key)
    sensed(catalog, "b2")
    before = snapshots(catalog)

    with pytest.raises(TooManyRemovedError, match=r"3 of the 20 images .* confirmed") as refused:
        commit_removals(catalog, manifest_uri("b2"))

    assert (refused.value.deleted, refused.value.rows, refused.value.share) == (3, 20, 0.15)
    assert snapshots(catalog) == before
    assert commit_removals(catalog, manifest_uri("b2"), confirmed=True).features == 3
    assert keys(catalog, "features") == sorted(KEYS[3:])


def test_replaced_images_do_not_count_as_removed(catalog: Catalog) -> None:
    """Replacing every image is no mass removal, and its rows stay until new ones are there."""
    ingest(catalog, "b1", *KEYS)
    for key in KEYS:
        put(key, "other")
    sensed(catalog, "b2")

    done = commit_removals(catalog, manifest_uri("b2"))

    assert done == Removals(0, 0, 0)
    assert keys(catalog, "features") == sorted(KEYS)


def test_nothing_to_remove_leaves_no_snapshot(catalog: Catalog) -> None:
    """A commit without a match is no commit."""
    ingest(catalog, "b1", KEYS[0])
    before = snapshots(catalog)
    sensed(catalog, "b2")

    assert commit_removals(catalog, manifest_uri("b2")) == Removals(0, 0, 0)
    assert snapshots(catalog) == before


def test_leftovers_of_other_feature_models_go_with_the_removals(catalog: Catalog) -> None:
    """A deleted image leaves the rows of all feature models; a stale version of one of them too."""
    ingest(catalog, "b1", *KEYS)
    sensed(catalog, "b2", model=OTHER_MODEL)
    result = featurized("b2", model=OTHER_MODEL)
    commit_features(catalog, manifest_uri("b2"), result)
    assert len(read("features", catalog).to_arrow()) == len(KEYS)
    assert len(table_rows(catalog, "features")) == 2 * len(KEYS)
    delete(KEYS[0])

    sensed(catalog, "b3")
    done = commit_removals(catalog, manifest_uri("b3"))

    assert done.features == 2
    assert keys(catalog, "features") == sorted(KEYS[1:] * 2)


def test_a_model_beside_leaves_the_current_rows_alone(catalog: Catalog) -> None:
    """A newer version that it features takes its own old row, and never one that readers read."""
    ingest(catalog, "b1", *KEYS)
    reprocess(catalog, "b2")
    before = [row for row in table_rows(catalog, "features") if row["feature_model"] == MODEL]
    put("Apple/1.jpg", "newer")
    delete("Banana/2.jpg")

    reprocess(catalog, "b3")

    rows = table_rows(catalog, "features")
    assert [row for row in rows if row["feature_model"] == MODEL] == before
    its = {row["image_key"]: row["etag"] for row in rows if row["feature_model"] == OTHER_MODEL}
    assert its["Apple/1.jpg"] == bucket_versions()["Apple/1.jpg"]
    assert set(its) == set(KEYS)  # the deleted one waits for the next ordinary run
    ingest(catalog, "b4")
    assert keys(catalog, "features") == sorted([*bucket_versions(), *bucket_versions()])


def test_a_retried_image_leaves_quarantine_or_stays_once(catalog: Catalog) -> None:
    """Whichever outcome it has now, each image has exactly one row; other models keep theirs."""
    ingest(catalog, "b1", *KEYS, broken=KEYS[:4])
    reprocess(catalog, "b2")
    sensed(catalog, "b3", retry_quarantined=True)
    commit_removals(catalog, manifest_uri("b3"))

    done = commit_features(
        catalog, manifest_uri("b3"), featurized("b3", broken=KEYS[:1], changed=KEYS[1:2])
    )

    assert (done.features, done.quarantined, done.changed) == (2, 1, 1)
    assert keys(catalog, "quarantine") == KEYS[:2]
    assert len(read("features", catalog).to_arrow()) == len(KEYS) - 2
    assert keys(catalog, "features") == sorted([*KEYS[2:], *KEYS[4:]])
    again = commit_features(catalog, manifest_uri("b3"), featurized("b3", "2", broken=KEYS[:1]))
    assert again.features == 3
    assert keys(catalog, "quarantine") == KEYS[:2]


def test_retried_images_do_not_count_as_newly_broken(catalog: Catalog) -> None:
    """Retrying a quarantine full of broken images is no broken camera; a new one among them is."""
    ingest(catalog, "b1", *KEYS, broken=KEYS[:8])
    sensed(catalog, "b2", retry_quarantined=True)

    done = commit_features(catalog, manifest_uri("b2"), featurized("b2", broken=KEYS[:8]))

    assert done.quarantined == 8
    put("Cherry/1.jpg")
    sensed(catalog, "b3", retry_quarantined=True)
    result = featurized("b3", broken=["Cherry/1.jpg"])
    with pytest.raises(TooManyQuarantinedError, match="1 of 1 images"):
        commit_features(catalog, manifest_uri("b3"), result)


def test_too_many_broken_images_are_refused(catalog: Catalog) -> None:
    """A quarantine share above the limit fails before any commit and counts the reasons."""
    for key in KEYS:
        put(key)
    sensed(catalog, "b1")
    result = featurized("b1", broken=KEYS[:2])
    before = snapshots(catalog)

    with pytest.raises(TooManyQuarantinedError, match=r"2 of 20 .*truncated: 2") as refused:
        commit_features(catalog, manifest_uri("b1"), result)

    assert refused.value.reasons == {"truncated": 2}
    assert snapshots(catalog) == before
    done = commit_features(catalog, manifest_uri("b1"), result, max_quarantine_share=0.1)
    assert (done.features, done.quarantined) == (18, 2)


def test_a_few_broken_images_are_rows_whatever_their_share(catalog: Catalog) -> None:
    """One bad upload of a small day would otherwise stop every night after it, and pay for it."""
    for key in KEYS[:4]:
        put(key)
    sensed(catalog, "b1")
    result = featurized("b1", broken=KEYS[:2])

    with pytest.raises(TooManyQuarantinedError):
        commit_features(catalog, manifest_uri("b1"), result, quarantine_allowance=1)
    done = commit_features(catalog, manifest_uri("b1"), result, quarantine_allowance=2)

    assert (done.features, done.quarantined) == (2, 2)


def test_an_image_moves_between_features_and_quarantine(catalog: Catalog) -> None:
    """A replacement that is broken takes the old features along; a repaired one the quarantine."""
    ingest(catalog, "b1", *KEYS, broken=["Apple/1.jpg"])
    put("Apple/1.jpg", "repaired")
    put("Apple/2.jpg", "now broken")
    sensed(catalog, "b2")

    result = featurized("b2", broken=["Apple/2.jpg"])
    commit_features(catalog, manifest_uri("b2"), result, max_quarantine_share=0.5)

    assert keys(catalog, "quarantine") == ["Apple/2.jpg"]
    assert keys(catalog, "features") == sorted(set(KEYS) - {"Apple/2.jpg"})


def test_an_image_that_changed_meanwhile_keeps_its_row(catalog: Catalog) -> None:
    """Without an outcome in features or quarantine the old version stays until the next run."""
    ingest(catalog, "b1", *KEYS)
    before = pairs(catalog, "features")
    put("Apple/1.jpg", "other")
    sensed(catalog, "b2")

    done = commit_features(catalog, manifest_uri("b2"), featurized("b2", changed=["Apple/1.jpg"]))

    assert (done.features, done.changed, done.replaced) == (0, 1, 0)
    assert pairs(catalog, "features") == before


def test_every_commit_happens_once(catalog: Catalog) -> None:
    """Each commit called again changes nothing and says the same."""
    ingest(catalog, "b1", *KEYS, broken=["Apple/0.jpg"])
    put("Apple/1.jpg", "other")
    delete("Apple/2.jpg")
    sensed(catalog, "b2")
    calls = [
        lambda: commit_removals(catalog, manifest_uri("b2")),
        lambda: commit_features(catalog, manifest_uri("b2"), result),
        lambda: commit_components(catalog, components),
    ]
    result = featurized("b2")
    said = [calls[0](), calls[1]()]
    components = reduced(catalog, "b2")
    said.append(calls[2]())
    before, rows = snapshots(catalog), table_rows(catalog, "features")

    assert [call() for call in calls] == said
    assert snapshots(catalog) == before
    assert table_rows(catalog, "features") == rows
    assert {key: keys(catalog, "features").count(key) for key in KEYS} == {
        key: int(key not in ("Apple/0.jpg", "Apple/2.jpg")) for key in KEYS
    }


def test_a_cleared_run_commits_what_it_senses_anew(catalog: Catalog) -> None:
    """A batch that senses other images after its commit commits them, too: other lists."""
    ingest(catalog, "b1", KEYS[0])
    put(KEYS[1])
    sensed(catalog, "b1")

    commit_features(catalog, manifest_uri("b1"), featurized("b1", attempt="2"))

    assert keys(catalog, "features") == sorted(KEYS[:2])


def test_a_cleared_run_commits_what_other_weights_make(catalog: Catalog) -> None:
    """The lists are the same, and what was committed before is of another feature model."""
    ingest(catalog, "b1", *KEYS[:2])
    reprocess(catalog, "b2")
    sensed(catalog, "b2", model="Newer-224", beside=True)

    result = featurized("b2", attempt="2", model="Newer-224")
    commit_features(catalog, manifest_uri("b2"), result)

    models = [row["feature_model"] for row in table_rows(catalog, "features")]
    assert sorted(models) == sorted([MODEL, OTHER_MODEL, "Newer-224"] * 2)


def test_a_cleared_run_commits_what_is_not_broken_any_more(catalog: Catalog) -> None:
    """The lists are the same: the image leaves quarantine, and is in one table as ever."""
    ingest(catalog, "b1", *KEYS[:2], broken=KEYS[:1])
    for attempt, broken in (("1", KEYS[:1]), ("2", [])):
        sensed(catalog, "b2", retry_quarantined=True)
        result = featurized("b2", attempt=attempt, broken=broken)
        commit_features(catalog, manifest_uri("b2"), result)

    assert keys(catalog, "quarantine") == []
    assert keys(catalog, "features") == sorted(KEYS[:2])


def test_committed_files_are_refused_a_second_time(catalog: Catalog) -> None:
    """An attempt that wrote into a committed folder is told so, before rows appear twice."""
    for key in KEYS[:2]:
        put(key)
        sensed(catalog, "b1")
        result = featurized("b1", attempt="1", files=1)
        if key == KEYS[0]:
            commit_features(catalog, manifest_uri("b1"), result)

    with pytest.raises(CommittedFileError, match="folder of its own"):
        commit_features(catalog, manifest_uri("b1"), result)


def test_an_overtaken_manifest_is_refused(catalog: Catalog) -> None:
    """When another batch committed the same images meanwhile, nothing is duplicated."""
    for key in KEYS:
        put(key)
    sensed(catalog, "slow")
    ingest(catalog, "quick")
    rows = table_rows(catalog, "features")

    with pytest.raises(StaleManifestError, match="Clear sense_changes") as refused:
        commit_features(catalog, manifest_uri("slow"), featurized("slow"))

    assert (refused.value.table, refused.value.count) == ("features", len(KEYS))
    assert table_rows(catalog, "features") == rows


def test_a_table_with_delete_files_is_refused() -> None:
    """Reading data files directly would show rows that a delete file hides."""
    hidden = SimpleNamespace(file=SimpleNamespace(file_path="s3://x/y.parquet"), delete_files=[1])
    scan = SimpleNamespace(plan_files=lambda: [hidden])
    table = SimpleNamespace(scan=lambda *_, **__: scan, name=lambda: ("fruits", "features"))

    with pytest.raises(UnreadableTableError, match="copy-on-write"):
        data_files(table)


def gone(key: str) -> dict:
    return listed_image(key) | {"reason": "deleted"}
