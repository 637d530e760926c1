"""Commits of components: versions that come, are kept, and go, and what is refused."""

from __future__ import annotations

import pytest
from pyiceberg.catalog import Catalog

from fruits.commits import commit_features, commit_removals
from fruits.component_commits import commit_components
from fruits.errors import ReconciliationError, StaleManifestError, StaleVersionError
from fruits.lake import open_table, read, versions
from fruits.objects import list_uris, write_bytes
from fruits.retired_models import remove_retired_models
from fruits.versions import components_are_behind
from tests.fruits.lake_support import (
    LAKE,
    MODEL,
    OTHER_MODEL,
    bucket_versions,
    delete,
    featurized,
    ingest,
    ingest_and_fit,
    keys,
    manifest_uri,
    put,
    reduced,
    sensed,
    table_rows,
)

KEYS = [f"{label}/{number}.jpg" for label in ("Apple", "Banana") for number in range(10)]
MODELS = f"{LAKE}/models/pca"


def test_components_belong_to_the_snapshot_that_was_read(catalog: Catalog) -> None:
    """Features committed while PCA ran are no difference: they are in the next version."""
    ingest(catalog, "b1", KEYS[0])
    result = reduced(catalog, "b1")
    ingest(catalog, "b2", KEYS[1])

    commit_components(catalog, result)

    assert keys(catalog, "components") == [KEYS[0]]
    assert components_are_behind(catalog, MODEL)


def test_components_follow_the_current_feature_model(catalog: Catalog) -> None:
    """Old versions go, the current one is named; another feature model's PCA does not become it."""
    ingest_and_fit(catalog, "b1", *KEYS)
    ingest_and_fit(catalog, "b2", "Cherry/1.jpg")
    sensed(catalog, "b3", model=OTHER_MODEL)
    other = featurized("b3", model=OTHER_MODEL)
    commit_features(catalog, manifest_uri("b3"), other)

    commit_components(catalog, reduced(catalog, "b3", model=OTHER_MODEL))

    assert {row["model_version"] for row in table_rows(catalog, "components")} == {"b2-1", "b3-1"}
    current = read("components", catalog).to_arrow()["model_version"].to_pylist()
    assert current == ["b2-1"] * 21


def test_more_model_versions_are_kept_on_request(catalog: Catalog) -> None:
    """keep_model_versions counts the newest, the current one among them."""
    for batch in ("b1", "b2", "b3"):
        ingest(catalog, batch, f"Apple/{batch}.jpg")
        commit_components(catalog, reduced(catalog, batch), keep_model_versions=2)

    assert {row["model_version"] for row in table_rows(catalog, "components")} == {"b2-1", "b3-1"}
    assert set(read("components", catalog).to_arrow()["model_version"].to_pylist()) == {"b3-1"}


def test_a_kept_version_gets_only_what_it_lacks(catalog: Catalog) -> None:
    """New and replaced images are appended, old versions of images go, nothing else is touched."""
    ingest_and_fit(catalog, "b1", *KEYS)
    before = {row["image_key"]: row for row in table_rows(catalog, "components")}
    put("Cherry/new.jpg")
    put("Apple/3.jpg", "other")
    delete("Apple/4.jpg")
    ingest(catalog, "b2")

    done = commit_components(catalog, reduced(catalog, "b2", fit=False))

    after = table_rows(catalog, "components")
    assert {row["image_key"]: row["etag"] for row in after} == bucket_versions()
    assert len(after) == len(KEYS)
    assert sum(file.rows for file in done.components) == 2
    assert {row["model_version"] for row in after} == {"b1-1"}
    assert {row["batch"] for row in after if row["image_key"] not in before} == {"b2"}
    assert [row for row in after if row["batch"] == "b1"] == [
        row for row in before.values() if row in after
    ]
    assert len(read("components", catalog).to_arrow()) == len(KEYS)
    assert not components_are_behind(catalog, MODEL)


def test_a_kept_version_is_committed_once(catalog: Catalog) -> None:
    """Repeating the commit, before or after further batches, changes nothing."""
    for key in KEYS:
        put(key)
        if key in (KEYS[0], KEYS[-1]):
            ingest(catalog, f"b {key[0]}")
        if key == KEYS[0]:
            commit_components(catalog, reduced(catalog, "b A"))
    result = reduced(catalog, "b B", fit=False)

    first = commit_components(catalog, result)
    again = commit_components(catalog, result)

    assert first == again
    assert keys(catalog, "components") == sorted(KEYS)


def test_a_lost_commit_is_made_up_for(catalog: Catalog) -> None:
    """A batch whose components were never committed leaves its images to the next one's step."""
    ingest_and_fit(catalog, "b1", KEYS[0])
    ingest(catalog, "b2", KEYS[1])
    ingest(catalog, "b3", KEYS[2])

    commit_components(catalog, reduced(catalog, "b3", fit=False))

    assert keys(catalog, "components") == sorted(KEYS[:3])


def test_a_version_that_was_replaced_meanwhile_is_not_extended(catalog: Catalog) -> None:
    """Rows of a dropped version would come back as a version with a few images only."""
    ingest_and_fit(catalog, "b1", KEYS[0])
    ingest(catalog, "b2", KEYS[1])
    slow = reduced(catalog, "b2", fit=False)
    commit_components(catalog, reduced(catalog, "b3"))

    with pytest.raises(StaleVersionError, match="Clear the pca task") as refused:
        commit_components(catalog, slow)

    assert refused.value.model_version == "b1-1"
    assert {row["model_version"] for row in table_rows(catalog, "components")} == {"b3-1"}


def test_two_batches_do_not_give_an_image_components_twice(catalog: Catalog) -> None:
    """The second of two steps that projected the same images is refused."""
    ingest_and_fit(catalog, "b1", KEYS[0])
    ingest(catalog, "b2", KEYS[1])
    slow, quick = reduced(catalog, "b2", fit=False), reduced(catalog, "b3", fit=False)
    ingest(catalog, "b4", KEYS[2])
    commit_components(catalog, reduced(catalog, "b4", fit=False))

    for late in (slow, quick):
        with pytest.raises(StaleManifestError):
            commit_components(catalog, late)

    assert keys(catalog, "components") == sorted(KEYS[:3])


@pytest.mark.parametrize("wrong", ["too few", "too many"])
def test_a_kept_version_must_get_exactly_what_it_lacks(catalog: Catalog, wrong: str) -> None:
    """A step that forgot an image, or projected one again, is refused before anything changes."""
    ingest_and_fit(catalog, "b1", KEYS[0])
    ingest(catalog, "b2", KEYS[1], KEYS[2])
    old = [row for row in table_rows(catalog, "components") if row["image_key"] == KEYS[0]]
    add = [row | {"batch": "b2"} for row in old]
    edit = {"too few": lambda rows: rows[1:], "too many": lambda rows: rows + add}[wrong]

    with pytest.raises(ReconciliationError):
        commit_components(catalog, reduced(catalog, "b2", fit=False, edit=edit))

    assert keys(catalog, "components") == [KEYS[0]]


def test_an_older_feature_models_version_becomes_current_again(catalog: Catalog) -> None:
    """Going back to a feature model brings its version back, in the commit of its new rows."""
    ingest_and_fit(catalog, "b1", KEYS[0])
    sensed(catalog, "b2", model=OTHER_MODEL)
    commit_features(catalog, manifest_uri("b2"), featurized("b2", model=OTHER_MODEL))
    commit_components(catalog, reduced(catalog, "b2", model=OTHER_MODEL))
    ingest(catalog, "b3", KEYS[1])

    commit_components(catalog, reduced(catalog, "b3", fit=False))

    rows = read("components", catalog).to_arrow().to_pylist()
    assert sorted((row["image_key"], row["model_version"]) for row in rows) == [
        (KEYS[0], "b1-1"),
        (KEYS[1], "b1-1"),
    ]


def test_a_version_fitted_again_to_the_same_features_is_committed(catalog: Catalog) -> None:
    """A run whose pca task is cleared commits what the new attempt fitted, and says so truly."""
    ingest(catalog, "b1", KEYS[0])
    commit_components(catalog, reduced(catalog, "b1", "1.1"))

    commit_components(catalog, reduced(catalog, "b1", "2.1"))

    assert {row["model_version"] for row in table_rows(catalog, "components")} == {"b1-2.1"}
    assert set(read("components", catalog).to_arrow()["model_version"].to_pylist()) == {"b1-2.1"}


@pytest.mark.parametrize("fit", [True, False])
def test_images_that_went_meanwhile_do_not_come_back(catalog: Catalog, fit: bool) -> None:
    """Components of an image that another batch removed while PCA ran are refused."""
    ingest_and_fit(catalog, "b1", *KEYS[:3])
    ingest(catalog, "b2", KEYS[3])
    slow = reduced(catalog, "b2", fit=fit)
    delete(KEYS[3])
    sensed(catalog, "b3")
    commit_removals(catalog, manifest_uri("b3"), confirmed=True)

    with pytest.raises(StaleManifestError, match=r"Apple/3.*Clear the pca task") as refused:
        commit_components(catalog, slow)

    assert refused.value.examples == (KEYS[3],)
    assert keys(catalog, "components") == KEYS[:3]


def test_a_late_version_does_not_take_components_away(catalog: Catalog) -> None:
    """A version fitted before another batch's images came is refused once they have components."""
    ingest(catalog, "b1", KEYS[0])
    late = reduced(catalog, "b1")
    ingest_and_fit(catalog, "b2", KEYS[1])

    with pytest.raises(StaleManifestError, match="knew nothing of"):
        commit_components(catalog, late)

    assert keys(catalog, "components") == KEYS[:2]
    assert {row["model_version"] for row in table_rows(catalog, "components")} == {"b2-1"}


def model_of(version: str) -> None:
    for name in ("model.json", "pca.npz", "PCAModel/data/part-0.parquet"):
        write_bytes(f"{MODELS}/{version}/{name}", b"x")


def folders() -> set[str]:
    return {uri.removeprefix(f"{MODELS}/").partition("/")[0] for uri in list_uris(f"{MODELS}/")}


def test_models_go_with_the_components_of_their_version(catalog: Catalog) -> None:
    """Kept versions keep their folders; so do versions that a step fitted and nobody committed."""
    for number, batch in enumerate(("b1", "b2", "b3")):
        ingest(catalog, batch, KEYS[number])
        model_of(f"{batch}-1")
        commit_components(catalog, reduced(catalog, batch), keep_model_versions=2)
    model_of("b4-1")

    removed = remove_retired_models(catalog, MODELS)

    assert removed == ["b1-1"]
    assert folders() == {"b2-1", "b3-1", "b4-1"}
    assert [version for version, _ in versions(open_table("components", catalog))] == [
        "b2-1",
        "b3-1",
    ]
    assert remove_retired_models(catalog, MODELS) == []


def test_models_that_a_crash_left_go_later(catalog: Catalog) -> None:
    """A process that dies between commit and removal leaves the folder to the next commit."""
    for number, batch in enumerate(("b1", "b2", "b3")):
        ingest(catalog, batch, KEYS[number])
        model_of(f"{batch}-1")
        commit_components(catalog, reduced(catalog, batch))

    assert remove_retired_models(catalog, MODELS) == ["b1-1", "b2-1"]
    assert folders() == {"b3-1"}


def test_a_version_that_was_dropped_does_not_come_back(catalog: Catalog) -> None:
    """Its model is gone: a commit repeated after its snapshot expired is refused."""
    ingest(catalog, "b1", KEYS[0])
    first = reduced(catalog, "b1")
    commit_components(catalog, first)
    commit_components(catalog, reduced(catalog, "b2"))
    table = open_table("components", catalog)
    table.maintenance.expire_snapshots().by_id(table.metadata.snapshots[0].snapshot_id).commit()

    with pytest.raises(StaleVersionError, match="b1-1 was fitted, and another batch replaced it"):
        commit_components(catalog, first)
