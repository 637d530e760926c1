"""Commits that are killed, overtaken or not answered: each image exactly once, whatever happens."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.table import Table

from fruits import swaps
from fruits.commits import commit_features, commit_removals
from fruits.component_commits import commit_components
from fruits.errors import CommitConflictError, DeletedFilesError
from fruits.lake import ensure_tables, open_catalog, open_table, read
from local_cloud.s3 import ObjectStorage
from tests.fruits.lake_support import (
    bucket_versions,
    delete,
    featurized,
    ingest,
    keys,
    manifest_uri,
    put,
    reduced,
    sensed,
    table_rows,
)
from tests.fruits.unlucky_catalogs import (
    CATALOG,
    KILLED,
    LosingCatalog,
    OvertakenCatalog,
    UnreachableCatalog,
    commit,
    commit_until_killed,
    unlucky,
)

KEYS = [f"{label}/{number}.jpg" for label in ("Apple", "Banana") for number in range(5)]


def first_batch(catalog: Catalog) -> None:
    ingest(catalog, "b1", *KEYS, broken=["Apple/0.jpg", "Apple/1.jpg"])


def second_batch(catalog: Catalog) -> list[str]:
    """Add, replace and delete images of both tables; return the URIs that the commits take."""
    delete("Banana/0.jpg")
    put("Apple/1.jpg", "repaired")
    put("Banana/1.jpg", "broken")
    put("Banana/2.jpg", "other")
    put("Cherry/1.jpg")
    sensed(catalog, "b2")
    return [manifest_uri("b2"), featurized("b2", broken=["Banana/1.jpg"])]


def assert_consistent(catalog: Catalog) -> None:
    """Each image of the bucket is a row of features or quarantine, once, as it is now."""
    rows = table_rows(catalog, "features") + table_rows(catalog, "quarantine")
    found = [(row["image_key"], row["etag"]) for row in rows]
    assert sorted(found) == sorted(bucket_versions().items())


@pytest.fixture(scope="module")
def fork_server() -> None:
    """Start a process that has imported everything, so that each death costs a fork only."""
    with pytest.MonkeyPatch.context() as clean:
        # PyIceberg takes the environment of its import for a default.
        for name in [name for name in os.environ if name.startswith("PYICEBERG_")]:
            clean.delenv(name)
        clean.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            ["tests.fruits.unlucky_catalogs", "tests.fruits.warm"]
        )
        forkserver.ensure_running()


class Lake:
    """Tables in a local folder, so that their state can be put back between two deaths."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.saved = folder / "lake", folder / "saved"
        self.folder.mkdir()
        monkeypatch.setenv(f"{CATALOG}WAREHOUSE", f"file://{self.folder}")
        monkeypatch.setenv(f"{CATALOG}URI", f"sqlite:///{self.folder}/catalog.db")
        self.catalog = open_catalog()
        ensure_tables(self.catalog)
        self.environment = {
            name: value for name, value in os.environ.items() if name.startswith(("AWS_", CATALOG))
        } | {
            f"{CATALOG}PY_CATALOG_IMPL": "tests.fruits.unlucky_catalogs.KilledCatalog",
            f"{CATALOG}PY_IO_IMPL": "tests.fruits.unlucky_catalogs.KilledIO",
        }
        del self.environment[f"{CATALOG}TYPE"]  # PyIceberg takes one of the two

    def save(self) -> None:
        shutil.copytree(self.folder, self.saved)

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.saved, self.folder)

    def run_until_killed(self, number: int, task: str, uris: list[str]) -> int | None:
        """Make the commits in a process that dies at its write *number*; return its exit code."""
        process = multiprocessing.get_context("forkserver").Process(
            target=commit_until_killed, args=(self.environment, number, task, uris)
        )
        process.start()
        process.join(60)
        return process.exitcode

    def deaths(self, task: str, uris: list[str]) -> int:
        """Kill the commits before every write in turn, retry, and check; return how often."""
        self.save()
        for number in range(1, 200):
            self.restore()
            code = self.run_until_killed(number, task, uris)
            if code == 0:
                return number - 1
            assert code == KILLED
            commit(open_catalog(), task, uris)
            assert_consistent(open_catalog())
            components = keys(open_catalog(), "components")
            assert len(set(components)) == len(components)
        raise AssertionError("the commits do not end")


@pytest.fixture
def lake(storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Return an empty lake."""
    return Lake(tmp_path, monkeypatch)


@pytest.fixture
def catalog(lake: Lake) -> Catalog:
    """Return the catalog of an empty lake in a local folder.

    Upon rclone a conflict takes seconds: where pyarrow deletes an object it also puts a marker for
    the folder, which rclone refuses, and the client tries that again and again.
    """
    return lake.catalog


@pytest.mark.usefixtures("fork_server")
def test_removals_and_features_survive_a_kill_before_every_write(lake: Lake) -> None:
    """Killed between any two writes and retried, the commits leave each image exactly once."""
    first_batch(lake.catalog)

    assert lake.deaths("features", second_batch(lake.catalog)) > 20


@pytest.mark.usefixtures("fork_server")
def test_components_survive_a_kill_before_every_write(lake: Lake) -> None:
    """Killed between any two writes and retried, every image has components exactly once."""
    first_batch(lake.catalog)
    commit_components(lake.catalog, reduced(lake.catalog, "b1"))
    uris = second_batch(lake.catalog)
    commit_removals(lake.catalog, uris[0], confirmed=True)
    commit_features(lake.catalog, *uris, max_quarantine_share=0.5)

    assert lake.deaths("components", [reduced(lake.catalog, "b2")]) > 4
    assert keys(open_catalog(), "components") == keys(open_catalog(), "features")
    assert len(read("components").to_arrow()) == len(keys(open_catalog(), "components"))


@pytest.mark.parametrize(
    "error",
    [
        CommitStateUnknownException("timed out"),
        ConnectionError("reset by peer"),
        CommitFailedException("the repeated request found the first one's change"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_answer_is_no_failure(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A commit that went through is found by its mark, whatever the catalog answered."""
    first_batch(catalog)
    uris = second_batch(catalog)
    monkeypatch.setattr(LosingCatalog, "error", error, raising=False)

    losing = unlucky(monkeypatch, "LosingCatalog")
    commit_removals(losing, uris[0], confirmed=True)
    commit_features(losing, *uris, max_quarantine_share=0.5)
    commit_features(losing, *uris, max_quarantine_share=0.5)

    assert_consistent(catalog)
    summaries = [s.summary for s in open_table("features", catalog).metadata.snapshots if s.summary]
    kinds = [(s["fruits.batch"], s["fruits.commit"]) for s in summaries]
    assert kinds == [("b1", "features"), ("b2", "removals"), ("b2", "features")]


def test_a_commit_that_did_not_go_through_is_an_error(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the mark is not there either, the error reaches the task, and a retry repairs all."""
    first_batch(catalog)
    uris = second_batch(catalog)
    monkeypatch.setattr(UnreachableCatalog, "error", ConnectionError("no route"), raising=False)

    with monkeypatch.context() as down:
        unreachable = unlucky(down, "UnreachableCatalog")
        with pytest.raises(ConnectionError, match="no route"):
            commit_removals(unreachable, uris[0], confirmed=True)

    commit_removals(catalog, uris[0], confirmed=True)
    commit_features(catalog, *uris, max_quarantine_share=0.5)
    assert_consistent(catalog)


def test_a_commit_that_always_comes_second_gives_up(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After five attempts the error names the table, and the table is as it was."""
    first_batch(catalog)
    uris = second_batch(catalog)
    with open_table("features", catalog).transaction() as transaction:
        # PyIceberg's own repetitions come on top of ours; without them this takes less time.
        transaction.set_properties({"commit.retry.num-retries": "0"})
    before = open_table("features", catalog).metadata
    monkeypatch.setattr(UnreachableCatalog, "error", CommitFailedException("late"), raising=False)

    with pytest.raises(CommitConflictError) as refused:
        commit_removals(unlucky(monkeypatch, "UnreachableCatalog"), uris[0], confirmed=True)

    assert (refused.value.table, refused.value.attempts) == ("features", 5)
    assert open_table("features", catalog).metadata == before


def test_an_answer_that_is_lost_at_the_last_attempt_is_a_commit(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four conflicts, then a commit whose answer never comes: it is made, and said to be."""
    first_batch(catalog)
    uris = second_batch(catalog)
    make, outcomes = swaps._commit, iter([CommitFailedException("late")] * 4)

    def commit_without_an_answer(*arguments: Any) -> None:
        if conflict := next(outcomes, None):
            raise conflict
        make(*arguments)
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(swaps, "_commit", commit_without_an_answer)

    removed = commit_removals(catalog, uris[0], confirmed=True)
    commit_features(catalog, *uris, max_quarantine_share=0.5)

    assert removed.features
    assert_consistent(catalog)


def test_files_that_were_deleted_are_not_committed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure took a file for rubbish before its commit: the table never names it."""
    first_batch(catalog)
    uris = second_batch(catalog)

    def sweep_too_soon(table: Table, swap: swaps.Swap) -> None:
        table.io.delete(swap.added[0].file_path)

    with monkeypatch.context() as erasing:
        erasing.setattr(swaps, "_refuse_committed", sweep_too_soon)
        with pytest.raises(DeletedFilesError) as refused:
            commit_removals(catalog, uris[0], confirmed=True)

    assert (refused.value.table, refused.value.transient) == ("features", True)
    commit_removals(catalog, uris[0], confirmed=True)
    commit_features(catalog, *uris, max_quarantine_share=0.5)
    assert_consistent(catalog)


def test_a_twin_that_commits_first_is_noticed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that make the same commit at the same time make it once."""
    first_batch(catalog)
    uris = second_batch(catalog)
    commit_removals(catalog, uris[0], confirmed=True)
    monkeypatch.setattr(
        OvertakenCatalog,
        "other",
        lambda: commit_features(catalog, *uris, max_quarantine_share=0.5),
    )

    overtaken = unlucky(monkeypatch, "OvertakenCatalog")
    commit_features(overtaken, *uris, max_quarantine_share=0.5)

    assert_consistent(catalog)
    assert len(open_table("features", catalog).metadata.snapshots) == 3


def test_a_first_commit_has_a_twin_too(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upon an empty table, where nothing is deleted, the twin's rows are not added again."""
    for key in KEYS:
        put(key)
    sensed(catalog, "b1")
    uris = [manifest_uri("b1"), featurized("b1")]
    monkeypatch.setattr(OvertakenCatalog, "other", lambda: commit_features(catalog, *uris))

    commit_features(unlucky(monkeypatch, "OvertakenCatalog"), *uris)

    assert_consistent(catalog)


def test_another_batch_s_commit_in_between_is_kept(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal that rewrites the same file first is respected: the plan is made again upon it."""
    first_batch(catalog)
    delete("Banana/4.jpg")
    sensed(catalog, "other")
    put("Banana/3.jpg", "other")
    sensed(catalog, "b2")
    uris = [manifest_uri("b2"), featurized("b2")]
    monkeypatch.setattr(
        OvertakenCatalog,
        "other",
        lambda: commit_removals(catalog, manifest_uri("other"), confirmed=True),
    )

    commit_features(unlucky(monkeypatch, "OvertakenCatalog"), *uris)

    assert_consistent(catalog)
    assert len(open_table("features", catalog).metadata.snapshots) == 3
