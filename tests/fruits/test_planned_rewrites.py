"""Files that lose many rows are replaced by the step; the commit proves them and swaps them in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog

from fruits.commits import commit_features, commit_removals
from fruits.lake import data_files, open_table
from fruits.planned_rewrites import plan_rewrites
from fruits_jobs import objects
from fruits_jobs.objects import open_parquet
from fruits_jobs.rewriting import Rewrite, copy_without, read_rewrites
from tests.fruits.conftest import serving_tables
from tests.fruits.lake_support import (
    LAKE,
    bucket_versions,
    featurized,
    keys,
    manifest_uri,
    put,
    sensed,
    table_rows,
    vector,
)

KEYS = [f"{label}/{number}.jpg" for label in ("Apple", "Banana") for number in range(10)]
REPLACED = ["Apple/3.jpg", "Apple/7.jpg", "Banana/0.jpg"]
REGION = "eu-west-3"
LIST = f"{LAKE}/attempts/b2/featurize-1/rewrites.parquet"


@pytest.fixture(autouse=True)
def fresh_clients() -> None:
    """Forget the jobs' client of the last test's S3, which listened on another port."""
    objects.filesystem.cache_clear()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commit twenty images, replace three of them, and sense that as batch b2."""
    folder = tmp_path_factory.mktemp("filled")
    with serving_tables(folder) as catalog:
        for key in KEYS:
            put(key)
        sensed(catalog, "b1")
        commit_features(catalog, manifest_uri("b1"), featurized("b1"))
        for key in REPLACED:
            put(key, "new")
        sensed(catalog, "b2")
        commit_removals(catalog, manifest_uri("b2"))
    return folder


@pytest.fixture
def replaced(filled: Path, catalog: Catalog) -> Catalog:
    """Return the catalog of what was filled."""
    return catalog


def committed_uris(catalog: Catalog) -> set[str]:
    return {file.uri for file in data_files(open_table("features", catalog))}


def copies(rewrites: list[Rewrite]) -> list[dict[str, Any]]:
    """Return what the step lists as rewritten, having written it."""
    folder = f"{LAKE}/tables/features/data/b2/1/rewritten"
    return [
        asdict(copy_without(rewrite, f"{folder}-{number}.parquet", REGION))
        for number, rewrite in enumerate(rewrites)
    ]


def assert_tables_are_the_bucket(catalog: Catalog) -> None:
    """Every image has one row, of its newest version, with that version's features."""
    rows = table_rows(catalog, "features")
    assert {row["image_key"]: row["etag"] for row in rows} == bucket_versions()
    assert len(rows) == len(KEYS)
    assert all(row["features"] == vector(row["etag"]) for row in rows)


def test_few_bytes_are_left_to_the_commit(replaced: Catalog) -> None:
    """Below the stated size no list is written, and nothing changes."""
    assert plan_rewrites(replaced, manifest_uri("b2"), LIST, 1_000_000) == 0
    with pytest.raises(FileNotFoundError), open_parquet(LIST, REGION):
        pass


def test_the_commit_swaps_what_the_step_wrote(replaced: Catalog) -> None:
    """The step's copies are in the table; the commit wrote none of its own."""
    before = committed_uris(replaced)
    assert plan_rewrites(replaced, manifest_uri("b2"), LIST, 0) == 2
    made = copies(read_rewrites(LIST, REGION, keep=()))

    result = featurized("b2", edit_result=lambda result: result.update(rewritten=made))
    done = commit_features(replaced, manifest_uri("b2"), result)

    after = committed_uris(replaced)
    assert {copy["uri"] for copy in made} < after
    assert not after & before
    assert not any("/data/b2/rewritten-" in uri for uri in after)
    assert (done.features, done.replaced) == (3, 3)
    assert_tables_are_the_bucket(replaced)
    assert len(open_table("features", replaced).metadata.snapshots) == 2


@pytest.mark.parametrize("fault", ["too many rows", "too few rows", "missing"])
def test_copies_that_do_not_fit_are_made_again(replaced: Catalog, fault: str) -> None:
    """A copy with other rows than those that stay is never committed, whatever the step says."""
    plan_rewrites(replaced, manifest_uri("b2"), LIST, 0)
    rewrites = read_rewrites(LIST, REGION, keep=())
    first, *others = sorted(rewrites, key=lambda rewrite: -len(rewrite.positions))
    positions = {
        "too many rows": first.positions[:1],
        "too few rows": np.union1d(first.positions, [0]),
        "missing": first.positions,
    }[fault]
    made = copies([Rewrite(first.uri, positions), *others])
    if fault == "missing":
        made = made[1:]

    result = featurized("b2", edit_result=lambda result: result.update(rewritten=made))
    commit_features(replaced, manifest_uri("b2"), result)

    after = committed_uris(replaced)
    assert sum("/data/b2/rewritten-" in uri for uri in after) == 1
    assert_tables_are_the_bucket(replaced)


def test_an_image_that_changed_again_keeps_its_row(replaced: Catalog) -> None:
    """The step leaves rows alone for which it has no newer one."""
    plan_rewrites(replaced, manifest_uri("b2"), LIST, 0)
    made = copies(read_rewrites(LIST, REGION, keep=["Apple/3.jpg"]))
    old = {row["image_key"]: row["etag"] for row in table_rows(replaced, "features")}

    result = featurized(
        "b2",
        changed=["Apple/3.jpg"],
        edit_result=lambda result: result.update(rewritten=made),
    )
    done = commit_features(replaced, manifest_uri("b2"), result)

    rows = {row["image_key"]: row["etag"] for row in table_rows(replaced, "features")}
    assert rows == bucket_versions() | {"Apple/3.jpg": old["Apple/3.jpg"]}
    assert done.replaced == 2
    assert {copy["uri"] for copy in made} < committed_uris(replaced)


def test_a_file_that_loses_every_row_has_no_copy(replaced: Catalog) -> None:
    """Where all images of a file were replaced, it goes and nothing takes its place."""
    for key in KEYS[:10]:
        put(key, "newer")
    sensed(replaced, "b3")
    assert plan_rewrites(replaced, manifest_uri("b3"), LIST, 0) == 2
    made = copies(read_rewrites(LIST, REGION, keep=()))
    assert sorted(copy["rows"] for copy in made)[0] == 0

    result = featurized("b3", edit_result=lambda result: result.update(rewritten=made))
    commit_features(replaced, manifest_uri("b3"), result)

    assert keys(replaced, "features") == sorted(KEYS)


def test_a_batch_that_is_committed_needs_no_rewriting(replaced: Catalog) -> None:
    """A run that is cleared after its commit featurizes again, and finds nothing to replace."""
    commit_features(replaced, manifest_uri("b2"), featurized("b2"))

    assert plan_rewrites(replaced, manifest_uri("b2"), LIST, 0) == 0


def test_no_value_changes_in_a_copy(replaced: Catalog) -> None:
    """What stays is what was there, with its types, order and nullability."""
    plan_rewrites(replaced, manifest_uri("b2"), LIST, 0)
    rewrite = read_rewrites(LIST, REGION, keep=())[0]
    with open_parquet(rewrite.uri, REGION) as file:
        whole = file.read()

    copy = copy_without(rewrite, f"{LAKE}/copy.parquet", REGION)

    keep = pa.array([row not in rewrite.positions for row in range(whole.num_rows)])
    with open_parquet(str(copy.uri), REGION) as file:
        assert isinstance(file, pq.ParquetFile)
        assert file.read().equals(whole.filter(keep))
        assert file.schema_arrow.equals(whole.schema)
    assert copy.rows == whole.num_rows - len(rewrite.positions)
