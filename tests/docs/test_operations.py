"""What docs/operations.md says to type does what it says, over a lake with two batches."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime

import pytest
from pyiceberg.catalog import Catalog

from fruits.commits import commit_features
from fruits.component_commits import commit_components
from fruits.lake import NAMESPACE, ensure_tables, open_catalog, open_table, read
from fruits.ledger import Entry, reserve
from fruits.runs import record_run
from local_cloud.s3 import ObjectStorage
from tests.docs.examples import examples, names_of
from tests.fruits.lake_support import (
    LAKE,
    featurized,
    ingest_and_fit,
    keys,
    manifest_uri,
    reduced,
    sensed,
)

QUARANTINE, BILL, SNAPSHOTS, ROLL_BACK, CATALOG, LAKE_LOST = examples("operations.md")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def lake(storage: ObjectStorage) -> Catalog:
    """Fill the tables: two apples on the first day, a banana and a broken one on the second."""
    catalog = open_catalog()
    ensure_tables(catalog)
    ingest_and_fit(catalog, "day-1", "Apple/1.jpg", "Apple/2.jpg")
    ingest_and_fit(catalog, "day-2", "Banana/1.jpg", "Banana/2.jpg", broken=["Banana/2.jpg"])
    return catalog


def test_quarantine_is_told_by_reason(lake: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    """The broken image is counted under its reason, and named."""
    found = names_of(QUARANTINE)

    assert found["broken"]["image_key"].tolist() == ["Banana/2.jpg"]
    assert "s3://fruits-images/Banana/2.jpg" in capsys.readouterr().out


def test_the_bill_has_every_promise(lake: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    """A cluster that is not settled yet is shown with the most that it may cost."""
    record_run({"batch": "day-2", "run_after": NOON, "added": 2})
    reserve(LAKE, Entry("day-2", 1, 2.88, "USD", NOON), month_cap=100)

    names_of(BILL)

    assert "day-2 1 at most 2.88" in capsys.readouterr().out


def test_a_bad_batch_is_rolled_back_and_computed_again(
    lake: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its images have neither features nor components any more; the next look takes them."""
    names_of(SNAPSHOTS)
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    roll_back = names_of(ROLL_BACK)["roll_back"]

    for name in ("features", "components"):
        (good,) = (int(line[1]) for line in told if line[0] == name and line[-1] == "day-1")
        roll_back(name, good)

    assert keys(lake, "features") == keys(lake, "components") == ["Apple/1.jpg", "Apple/2.jpg"]
    assert sensed(lake, "day-3").counts.added == 1
    commit_features(lake, manifest_uri("day-3"), featurized("day-3"))
    commit_components(lake, reduced(lake, "day-3"))
    assert read("components").to_arrow().num_rows == 3


@pytest.mark.parametrize("lost", ["features", "components"])
def test_a_part_of_the_catalog_is_made_again(lake: Catalog, lost: str) -> None:
    """One table that the catalog lost is registered; the others stay as they are, and repeated."""
    before = {name: keys(lake, name) for name in ("features", "components")}
    lake.drop_table((NAMESPACE, lost))

    for _ in range(2):
        names_of(CATALOG)

    assert {name: keys(open_catalog(), name) for name in before} == before


def test_a_lost_lake_begins_anew(lake: Catalog, storage: ObjectStorage) -> None:
    """The tables' files are gone, and their entries keep a run from starting until they are too."""
    shutil.rmtree(storage.folder / "fruits-lake" / "tables")
    time.sleep(0.3)  # rclone may know a file for 0.1 s
    with pytest.raises(FileNotFoundError):
        ensure_tables(open_catalog())

    names_of(LAKE_LOST)
    ensure_tables(open_catalog())

    assert sensed(lake, "day-3").counts.added == 4


def test_a_lost_catalog_is_made_again(
    lake: Catalog, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty catalog finds every table as it was, from the files in the lake."""
    before = keys(lake, "features")
    lost = f"sqlite:///{storage.folder.parent}/new.db"
    monkeypatch.setenv("PYICEBERG_CATALOG__FRUITS__URI", lost)

    names_of(CATALOG)

    assert keys(open_catalog(), "features") == before
    assert open_table("components").properties == open_table("components", lake).properties
