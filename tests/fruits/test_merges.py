"""Merged files: the same rows in fewer files, whoever else writes meanwhile."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog

from fruits.commits import commit_features, commit_removals
from fruits.component_commits import commit_components
from fruits.errors import UnreadableTableError
from fruits.lake import data_files, open_table
from fruits.merges import LARGEST, MANY, SMALL, merge_small_files, small_runs
from tests.fruits.lake_support import (
    MODEL,
    OTHER_MODEL,
    delete,
    featurized,
    ingest,
    ingest_and_fit,
    keys,
    manifest_uri,
    reduced,
    sensed,
    table_rows,
)
from tests.fruits.unlucky_catalogs import OvertakenCatalog, unlucky

MB = 1024 * 1024


def some_days(catalog: Catalog, days: int = MANY) -> None:
    """Ingest two images a day: each day leaves a file of features."""
    for day in range(days):
        images = [f"{label}/{day:02d}.jpg" for label in ("Apple", "Banana")]
        ingest(catalog, f"b{day:02d}", *images, files=1)


def file(name: str, megabytes: float, partition: str = "m") -> SimpleNamespace:
    size = int(megabytes * MB)
    return SimpleNamespace(file_path=name, file_size_in_bytes=size, partition=partition)


def test_many_small_files_become_one_with_the_same_rows(catalog: Catalog) -> None:
    """Rows are equal bit by bit, sorted by label and key, and the old files stay where they are."""
    some_days(catalog)
    before, old = table_rows(catalog, "features"), data_files(open_table("features", catalog))

    count = merge_small_files(catalog, "features", "b99")

    table = open_table("features", catalog)
    (new,) = data_files(table)
    assert (count, len(old)) == (MANY, MANY)
    assert table_rows(catalog, "features") == before
    with table.io.new_input(new.uri).open() as stream:
        order = pq.read_table(stream, columns=["label", "image_key"]).to_pylist()
    assert order == sorted(order, key=lambda row: (row["label"], row["image_key"]))
    assert "/data/b99/merged-" in new.uri
    assert all(table.io.new_input(one.uri).exists() for one in old)
    assert merge_small_files(catalog, "features", "b99") == 0


def test_few_files_are_left_alone(catalog: Catalog) -> None:
    """Fewer than 16 small files make no snapshot."""
    some_days(catalog, MANY - 1)
    count = len(open_table("features", catalog).metadata.snapshots)

    assert merge_small_files(catalog, "features", "b99") == 0
    assert len(open_table("features", catalog).metadata.snapshots) == count


def test_runs_are_small_files_of_one_partition() -> None:
    """Large files stay, each partition counts for itself, and no run is above 64 MB."""
    small = [file(f"a{i:02d}", 10) for i in range(20)]
    others = [file(f"b{i:02d}", 10, "other") for i in range(MANY - 1)]
    large = [file(f"c{i:02d}", SMALL / MB) for i in range(20)]

    runs = [[one.file_path for one in run] for run in small_runs([*large, *others, *small])]

    assert [path for run in runs for path in run] == [f"a{i:02d}" for i in range(20)]
    assert [len(run) for run in runs] == [6, 6, 6, 2]
    assert LARGEST == 64 * MB


def test_a_single_leftover_file_is_not_rewritten() -> None:
    """A run of one file would be the same file again."""
    runs = list(small_runs([file(f"a{i:02d}", 21) for i in range(16)]))

    assert [len(run) for run in runs] == [3, 3, 3, 3, 3]


def test_feature_models_are_not_mixed(catalog: Catalog) -> None:
    """A data file holds one feature model: that is what PCA relies on."""
    some_days(catalog)
    sensed(catalog, "other", model=OTHER_MODEL)
    result = featurized("other", model=OTHER_MODEL, files=MANY)
    commit_features(catalog, manifest_uri("other"), result)

    merge_small_files(catalog, "features", "b99")

    files = data_files(open_table("features", catalog))
    assert len(files) == 2
    models = {row["feature_model"] for row in table_rows(catalog, "features")}
    assert models == {MODEL, OTHER_MODEL}
    assert len(table_rows(catalog, "features")) == 4 * MANY


def test_a_step_that_read_before_a_merge_is_committed_after_it(catalog: Catalog) -> None:
    """PCA's snapshot is another one then, of the same images; later days go on as ever."""
    some_days(catalog)
    result = reduced(catalog, "b15")
    merge_small_files(catalog, "features", "b15")

    commit_components(catalog, result)

    assert keys(catalog, "components") == keys(catalog, "features")
    delete("Apple/03.jpg")
    sensed(catalog, "b16")
    assert commit_removals(catalog, manifest_uri("b16")).features == 1
    assert len(table_rows(catalog, "features")) == 2 * MANY - 1


def test_components_are_merged_too(catalog: Catalog) -> None:
    """Each version's files by themselves."""
    ingest_and_fit(catalog, "a", "Apple/first.jpg")
    for day in range(MANY):
        ingest(catalog, f"b{day:02d}", f"Apple/{day}.jpg")
        commit_components(catalog, reduced(catalog, f"b{day:02d}", fit=False))
    before = table_rows(catalog, "components")

    assert merge_small_files(catalog, "components", "b99") == MANY + 1
    assert table_rows(catalog, "components") == before
    assert len(data_files(open_table("components", catalog))) == 1


def test_a_removal_while_files_are_merged_is_not_undone(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that lost a file to another commit is left; no removed row comes back."""
    some_days(catalog)
    delete("Apple/05.jpg")
    sensed(catalog, "gone")
    remove = partial(commit_removals, catalog, manifest_uri("gone"))
    monkeypatch.setattr(OvertakenCatalog, "other", remove)

    merge_small_files(unlucky(monkeypatch, "OvertakenCatalog"), "features", "b99")

    assert "Apple/05.jpg" not in keys(catalog, "features")
    assert len(keys(catalog, "features")) == 2 * MANY - 1
    assert OvertakenCatalog.other is None


def test_a_file_of_other_rows_is_refused(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that something else wrote is not made to look like one of ours."""
    some_days(catalog)
    table = open_table("features", catalog)
    victim, donor = data_files(table)[:2]
    with table.io.new_input(donor.uri).open() as stream:
        rows = pq.read_table(stream)
    with table.io.new_output(victim.uri).create(overwrite=True) as output:
        pq.write_table(rows.slice(0, 1), output)

    with pytest.raises(UnreadableTableError, match="has 1 rows, and the table says 2"):
        merge_small_files(catalog, "features", "b99")
