"""Merged files: the same rows in fewer files, whoever else writes meanwhile."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog

from fruits.commits import commit_features, commit_removals
from fruits.component_commits import commit_components
from fruits.errors import UnreadableTableError
from fruits.lake import data_files, open_table
from fruits.merges import LARGEST, MANY, SMALL, merge_small_files, small_runs
from tests.fruits.conftest import serving_tables
from tests.fruits.lake_support import (
    MODEL,
    OTHER_MODEL,
    delete,
    featurized,
    ingest,
    keys,
    manifest_uri,
    reduced,
    sensed,
    table_rows,
)
from tests.fruits.unlucky_catalogs import OvertakenCatalog, unlucky

MB = 1024 * 1024


def one_day(catalog: Catalog, day: int) -> None:
    """Ingest two images: each day leaves a file of features."""
    images = [f"{label}/{day:02d}.jpg" for label in ("Apple", "Banana")]
    ingest(catalog, f"b{day:02d}", *images, files=1)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a lake that lacks one file of many."""
    folder = tmp_path_factory.mktemp("filled")
    with serving_tables(folder) as catalog:
        for day in range(MANY - 1):
            one_day(catalog, day)
    return folder


@pytest.fixture
def many_days(filled: Path, catalog: Catalog) -> None:
    """Let another day leave the one file that makes them many."""
    one_day(catalog, MANY - 1)


def file(name: str, megabytes: float, partition: str = "m") -> SimpleNamespace:
    size = int(megabytes * MB)
    return SimpleNamespace(file_path=name, file_size_in_bytes=size, partition=partition)


def test_many_small_files_become_one_with_the_same_rows(catalog: Catalog, many_days: None) -> None:
    """Rows are equal bit by bit, sorted by label and key, and the old files stay where they are."""
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


def test_few_files_are_left_alone(catalog: Catalog, filled: Path) -> None:
    """Fewer than 16 small files make no snapshot."""
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


def test_feature_models_are_not_mixed(catalog: Catalog, many_days: None) -> None:
    """A data file holds one feature model: that is what PCA relies on."""
    sensed(catalog, "other", model=OTHER_MODEL)
    result = featurized("other", model=OTHER_MODEL, files=MANY)
    commit_features(catalog, manifest_uri("other"), result)

    merge_small_files(catalog, "features", "b99")

    files = data_files(open_table("features", catalog))
    assert len(files) == 2
    models = {row["feature_model"] for row in table_rows(catalog, "features")}
    assert models == {MODEL, OTHER_MODEL}
    assert len(table_rows(catalog, "features")) == 4 * MANY


def test_a_step_that_read_before_a_merge_is_committed_after_it(
    catalog: Catalog, many_days: None
) -> None:
    """PCA's snapshot is another one then, of the same images; later days go on as ever."""
    result = reduced(catalog, "b15")
    merge_small_files(catalog, "features", "b15")

    commit_components(catalog, result)

    assert keys(catalog, "components") == keys(catalog, "features")
    delete("Apple/03.jpg")
    sensed(catalog, "b16")
    assert commit_removals(catalog, manifest_uri("b16")).features == 1
    assert len(table_rows(catalog, "features")) == 2 * MANY - 1


def test_components_are_merged_too(catalog: Catalog, many_days: None) -> None:
    """Each version's files by themselves."""
    for attempt in ("1", "2"):
        result = reduced(catalog, "b15", attempt, files=MANY)
        commit_components(catalog, result, keep_model_versions=2)
    before = by_version(catalog)

    assert merge_small_files(catalog, "components", "b99") == 2 * MANY
    assert by_version(catalog) == before
    assert len(data_files(open_table("components", catalog))) == 2


def by_version(catalog: Catalog) -> list[dict[str, Any]]:
    """Return the rows of components, version by version."""
    return sorted(table_rows(catalog, "components"), key=lambda row: row["model_version"])


def test_a_removal_while_files_are_merged_is_not_undone(
    catalog: Catalog, many_days: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that lost a file to another commit is left; no removed row comes back."""
    delete("Apple/05.jpg")
    sensed(catalog, "gone")
    remove = partial(commit_removals, catalog, manifest_uri("gone"))
    monkeypatch.setattr(OvertakenCatalog, "other", remove)

    merged = merge_small_files(unlucky(monkeypatch, "OvertakenCatalog"), "features", "b99")

    assert merged == 0
    assert "Apple/05.jpg" not in keys(catalog, "features")
    assert len(keys(catalog, "features")) == 2 * MANY - 1
    assert OvertakenCatalog.other is None


def test_a_file_of_other_rows_is_refused(catalog: Catalog, many_days: None) -> None:
    """A file that something else wrote is not made to look like one of ours."""
    table = open_table("features", catalog)
    victim, donor = data_files(table)[:2]
    with table.io.new_input(donor.uri).open() as stream:
        rows = pq.read_table(stream)
    with table.io.new_output(victim.uri).create(overwrite=True) as output:
        pq.write_table(rows.slice(0, 1), output)

    with pytest.raises(UnreadableTableError, match="has 1 rows, and the table says 2"):
        merge_small_files(catalog, "features", "b99")
