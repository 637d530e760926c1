"""Two feature models side by side: what readers see, what a switch changes, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from fruits.commits import commit_features
from fruits.component_commits import commit_components
from fruits.feature_models import (
    IncompleteModelError,
    UnknownModelError,
    feature_models,
    main,
    switch,
)
from fruits.lake import current_feature_model, current_version, equals, open_table, read
from tests.fruits.conftest import serving_tables
from tests.fruits.lake_support import (
    MODEL,
    OTHER_MODEL,
    bucket_versions,
    featurized,
    ingest,
    ingest_and_fit,
    keys,
    manifest_uri,
    put,
    reduced,
    reprocess,
    sensed,
    table_rows,
)

KEYS = [f"{label}/{number}.jpg" for label in ("Apple", "Banana") for number in range(5)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a lake with two models, the first of them current."""
    folder = tmp_path_factory.mktemp("filled")
    with serving_tables(folder) as catalog:
        ingest_and_fit(catalog, "b1", *KEYS)
        reprocess(catalog, "b2")
    return folder


@pytest.fixture
def both(filled: Path, catalog: Catalog) -> Catalog:
    """Return a catalog with features and components of both models."""
    return catalog


def read_now(catalog: Catalog) -> tuple[set[str], set[str]]:
    """Return the feature models and the PCA versions that readers get."""
    features, components = (read(name, catalog).to_arrow() for name in ("features", "components"))
    assert set(features["image_key"].to_pylist()) == set(components["image_key"].to_pylist())
    return set(features["feature_model"].to_pylist()), set(components["model_version"].to_pylist())


def test_what_is_computed_beside_is_not_read(both: Catalog) -> None:
    """Features and components of another model change nothing for readers."""
    assert read_now(both) == ({MODEL}, {"b1-1"})
    assert (current_feature_model(both), current_version(both)) == (MODEL, "b1-1")


def test_a_repeated_reprocess_leaves_readers_their_components(both: Catalog) -> None:
    """An image that was replaced meanwhile keeps its rows of the current model until its run."""
    put(KEYS[0], "other bytes")
    reprocess(both, "b3", fit=False)

    assert read_now(both) == ({MODEL}, {"b1-1"})
    assert len(keys(both, "components")) == 2 * len(KEYS)

    ingest(both, "b4")
    commit_components(both, reduced(both, "b4", fit=False))
    rows = [
        {(row["image_key"], row["etag"]) for row in table_rows(both, name)}
        for name in ("features", "components")
    ]
    assert rows == [set(bucket_versions().items())] * 2


def test_a_switch_is_one_commit_of_one_table(both: Catalog) -> None:
    """Features and components change together: a property of features, no data, no other table."""
    before = {name: open_table(name, both) for name in ("features", "components", "quarantine")}

    done = switch(both, OTHER_MODEL)

    after = {name: open_table(name, both) for name in before}
    assert (done.before, done.after, done.model_version) == (MODEL, OTHER_MODEL, "b2-1")
    assert read_now(both) == ({OTHER_MODEL}, {"b2-1"})
    assert [n for n in before if after[n].metadata_location != before[n].metadata_location] == [
        "features"
    ]
    log = after["features"].metadata.metadata_log
    assert log[-1].metadata_file == before["features"].metadata_location
    assert after["features"].current_snapshot() == before["features"].current_snapshot()


def test_switching_back_gives_what_there_was(both: Catalog) -> None:
    """The same rows, bit by bit; the list says which model was read before."""
    before = [read(name, both).to_arrow() for name in ("features", "components")]
    switch(both, OTHER_MODEL)
    listed = feature_models(both)

    switch(both, MODEL)

    assert [(m.name, m.current, m.previous) for m in listed] == [
        (OTHER_MODEL, True, False),
        (MODEL, False, True),
    ]
    assert [read(name, both).to_arrow() for name in ("features", "components")] == before


def test_switching_to_the_current_one_changes_nothing(both: Catalog) -> None:
    """A repeated switch, or a task's retry, is no commit."""
    switch(both, OTHER_MODEL)
    before = open_table("features", both).metadata_location

    switch(both, OTHER_MODEL)

    assert open_table("features", both).metadata_location == before


def test_an_unknown_model_is_refused(both: Catalog) -> None:
    """The error names those that there are."""
    with pytest.raises(UnknownModelError, match="There are") as refused:
        switch(both, "ResNet50-typo")

    assert set(refused.value.known) == {MODEL, OTHER_MODEL}
    assert current_feature_model(both) == MODEL


def test_a_model_without_all_images_is_refused(both: Catalog) -> None:
    """Readers would miss images: the error counts them; accepted, they come with the next run."""
    ingest(both, "b3", "Cherry/1.jpg", "Cherry/2.jpg")
    commit_components(both, reduced(both, "b3", fit=False))

    with pytest.raises(IncompleteModelError, match=r"2 have no features.*Reprocess = ResNet50"):
        switch(both, OTHER_MODEL)

    assert read_now(both) == ({MODEL}, {"b1-1"})
    switch(both, OTHER_MODEL, accept_missing=True)
    assert read("features", both).to_arrow().num_rows == len(KEYS)
    changes = sensed(both, "b4", model=OTHER_MODEL)
    assert (changes.counts.added, changes.counts.deleted) == (2, 0)


def test_a_model_without_all_components_is_refused(both: Catalog) -> None:
    """Features that PCA has not seen yet, after a run that failed in between, are not enough."""
    put("Cherry/1.jpg")
    sensed(both, "b3", model=OTHER_MODEL, beside=True)
    commit_features(both, manifest_uri("b3"), featurized("b3", model=OTHER_MODEL))

    with pytest.raises(IncompleteModelError, match="1 of its own no components"):
        switch(both, OTHER_MODEL)


def test_an_image_that_the_other_model_quarantined_is_no_gap(both: Catalog) -> None:
    """It has an outcome: reprocessing again would not bring features."""
    ingest(both, "b3", "Cherry/1.jpg")
    sensed(both, "b4", model=OTHER_MODEL, beside=True)
    result = featurized("b4", model=OTHER_MODEL, broken=["Cherry/1.jpg"])
    commit_features(both, manifest_uri("b4"), result, max_quarantine_share=1)

    assert switch(both, OTHER_MODEL).after == OTHER_MODEL


def test_another_writer_first_is_looked_at_again(
    both: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that lost its completeness between check and commit is refused after all."""
    tried = []

    def slow(self: Table, *_: object, **__: object) -> None:
        patch.undo()
        ingest(both, "b3", "Cherry/1.jpg")
        tried.append(1)
        raise CommitFailedException("another writer was first")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "_do_commit", slow)
        with pytest.raises(IncompleteModelError, match="1 have no features"):
            switch(both, OTHER_MODEL)

    assert (tried, current_feature_model(both)) == ([1], MODEL)


def test_a_model_that_nobody_reads_can_be_deleted(both: Catalog) -> None:
    """As docs/reprocess.md has it: its rows go, those of the current one stay."""
    open_table("features", both).delete(equals("feature_model", OTHER_MODEL))
    counts = sensed(both, "b3").counts

    assert [model.name for model in feature_models(both)] == [MODEL]
    assert read_now(both) == ({MODEL}, {"b1-1"})
    assert (counts.added, counts.deleted, counts.replaced) == (0, 0, 0)


def test_the_command_lists_switches_and_explains(
    both: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a name it tells what there is; a wrong name is an exit code and a way out."""
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert main(["nothing-like-it"]) == 1
    refused = capsys.readouterr().out
    assert main([OTHER_MODEL]) == 0
    switched = capsys.readouterr().out

    assert f"{MODEL} (current): 10 images, components of b1-1; complete" in listed
    assert f"{OTHER_MODEL} (beside it)" in listed
    assert "UnknownModelError" in refused
    assert f"To go back: switch to {MODEL}" in switched
    assert f"{MODEL} (before it)" in switched
