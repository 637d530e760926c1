"""Erasure: nothing of an image is left anywhere in the lake, and nothing else is lost."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog

from fruits import erasures, swaps, sweeps
from fruits.commits import commit_features
from fruits.erasures import RunInProgressError, WrongKeyError, erase, image_key, main
from fruits.ingestion import remove_rows
from fruits.lake import data_files, open_table, read
from fruits.leases import Lease, end_lease, grant_lease
from fruits.objects import exists, list_uris, read_bytes, read_json, write_bytes, write_json
from fruits.references import HeldSnapshotsError, expire_snapshots, forget_deleted_files
from fruits.runs import record_run
from fruits.settings import Settings
from fruits.stored import UndeletedError
from fruits.sweeps import LostFilesError, sweep
from local_cloud.s3 import ObjectStorage
from tests.fruits.conftest import serving_tables
from tests.fruits.lake_search import Image, search
from tests.fruits.lake_support import (
    LAKE,
    MODEL,
    bucket_versions,
    delete,
    featurized,
    ingest_and_fit,
    keys,
    manifest_uri,
    put,
    sensed,
    table_rows,
    vector,
)

# Its name sorts first in its label: it is a bound of its file's columns, too.
KEY = "Apple/00 jean's photo é.jpg"
BROKEN = "Zebra/no apple.jpg"
OTHERS = [f"{label}/{number}.jpg" for label in ("Apple", "Banana") for number in range(1, 10)]
SETTINGS = Settings(images_uri="s3://fruits-images/")


@pytest.fixture
def lake(storage: ObjectStorage) -> Path:
    """Return the folder in which the lake's objects are."""
    return storage.folder / "fruits-lake"


def image(key: str) -> Image:
    """Return what the image *key* of the bucket is known by."""
    etag = bucket_versions()[key]
    return Image((key, etag), (vector(etag), vector(etag)[:2]))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill bucket, tables and everything beside them; return the folder."""
    folder = tmp_path_factory.mktemp("filled")
    with serving_tables(folder) as catalog:
        ingest_and_fit(catalog, "b1", KEY, BROKEN, *OTHERS, broken=[BROKEN])
        put(OTHERS[0], "replaced")
        ingest_and_fit(catalog, "b2")
        leave_traces(catalog, image(KEY))
    return folder


@pytest.fixture
def orchard(filled: Path, catalog: Catalog) -> Image:
    """Have all that was filled; return what one of its images is known by."""
    return image(KEY)


def leave_traces(catalog: Catalog, erased: Image) -> None:
    """Write what steps and reports may leave: logs, lists, pages, samples, statistics."""
    whole, two = erased.vectors
    log = gzip.compress(f"WARN {KEY} was read twice".encode())
    write_bytes(f"{LAKE}/logs/j-1/steps/s-1/stderr.gz", log)
    write_bytes(f"{LAKE}/reports/b1/report.html", f"<li>{KEY.replace(chr(39), '&#x27;')}".encode())
    write_json(f"{LAKE}/reports/b1/report.json", {"batch": "b1", "features": 20})
    for outcome in ("failed", "success"):  # written again, as after a run that was cleared
        record_run({"batch": "b1", "outcome": outcome})
    write_json(f"{LAKE}/models/pca/b1-1/scatter.json", {"points": [[9, 9], [*two]]})
    write_json(f"{LAKE}/models/pca/b1-1/model.json", {"k": 2})
    write_bytes(f"{LAKE}/manifests/b1/list.csv", f"{KEY},1.0".encode())
    features = open_table("features", catalog)
    for number, file in enumerate(data_files(features)):
        rows = pq.read_table(io.BytesIO(read_bytes(file.uri)), columns=["image_key"])
        total = whole if KEY in rows["image_key"].to_pylist() else [-1.0] * len(whole)
        write_statistics(f"{LAKE}/statistics/{MODEL}/{number}.npz", [file.uri], total)


def write_statistics(uri: str, files: list[str], total: Any) -> None:
    """Write an entry of the statistics cache as the pca step does."""
    about = json.dumps({"format": 1, "files": [{"uri": file} for file in files]})
    buffer = io.BytesIO()
    np.savez(buffer, about=np.frombuffer(about.encode(), np.uint8), total=np.asarray(total))
    write_bytes(uri, buffer.getvalue())


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what lets days pass by S3's clock."""

    def pass_days(days: int) -> None:
        real = sweeps.storage_time
        monkeypatch.setattr(sweeps, "storage_time", lambda uri: real(uri) + timedelta(days=days))

    return pass_days


def test_an_erased_image_is_nowhere(catalog: Catalog, lake: Path, orchard: Image) -> None:
    """The search finds it live in every format; after the erasure it finds nothing."""
    before = {trace.where for trace in search(lake, orchard)}
    rows = [row for row in table_rows(catalog, "features") if row["image_key"] != KEY]

    receipt, uri = erase(SETTINGS, [KEY])

    assert before >= {
        *("parquet values", "parquet vectors", "parquet footer", "parquet dictionary"),
        *("avro", "json vectors", "gzip text", "html", "csv", "npz vectors"),
    }
    assert search(lake, orchard) == set()
    assert table_rows(catalog, "features") == rows
    assert agrees_with_bucket(catalog)
    assert (receipt.rows, receipt.versions) == (
        {"quarantine": 0, "features": 1, "components": 1},
        1,
    )
    assert read_json(uri)["finished_at"]
    assert not any(exists(file) for file in receipt.files)
    assert exists(f"{LAKE}/reports/b1/report.json")
    assert exists(f"{LAKE}/models/pca/b1-1/model.json")
    assert read("runs", catalog).to_arrow()["outcome"].to_pylist() == ["success"]


def test_a_quarantined_image_is_erased_too(catalog: Catalog, lake: Path, orchard: Image) -> None:
    """A broken photograph may show somebody as well as a whole one."""
    broken = image(BROKEN)
    assert search(lake, broken)

    receipt, _ = erase(SETTINGS, [BROKEN])

    assert search(lake, broken) == set()
    assert receipt.rows == {"quarantine": 1, "features": 0, "components": 0}
    assert agrees_with_bucket(catalog)


def test_a_removed_image_is_gone_after_the_retention(
    catalog: Catalog, lake: Path, orchard: Image, later: Callable[[int], None]
) -> None:
    """At the next run no table has it; the retention later nothing has, and tables are whole."""
    delete(KEY)
    sensed(catalog, "b3")
    remove_rows(SETTINGS, {"remove": True, "batch": "b3"})
    assert KEY not in {*keys(catalog, "features"), *keys(catalog, "components")}
    assert "npz vectors" not in {trace.where for trace in search(lake, orchard)}

    later(SETTINGS.retention_days - 1)
    sweep(SETTINGS)
    early = search(lake, orchard)
    later(2)
    done = sweep(SETTINGS)

    assert "parquet values" in {trace.where for trace in early}
    assert search(lake, orchard) == set()
    assert agrees_with_bucket(catalog)
    assert len(read_json(done["receipt"])["files"]) == done["objects"] > 0
    assert sweep(SETTINGS)["receipt"] is None


@pytest.mark.usefixtures("storage")
def test_a_lake_in_a_folder_forgets_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: Callable[[int], None]
) -> None:
    """Lists and logs go with age wherever in its bucket the lake begins."""
    monkeypatch.setenv("PYICEBERG_CATALOG__FRUITS__URI", f"sqlite:///{tmp_path / 'team.db'}")
    monkeypatch.setenv("PYICEBERG_CATALOG__FRUITS__WAREHOUSE", f"{LAKE}/team/tables")
    log = f"{LAKE}/team/logs/j-1/stderr.gz"
    write_bytes(log, b"Apple/1.jpg")
    write_bytes(f"{LAKE}/team/leases/b.1.json", b"{}")

    later(SETTINGS.retention_days + 1)
    sweep(SETTINGS.model_copy(update={"lake_uri": f"{LAKE}/team"}))

    assert not exists(log)
    assert exists(f"{LAKE}/team/leases/b.1.json")


def test_an_image_that_was_replaced_is_gone_after_the_retention(
    catalog: Catalog, lake: Path, orchard: Image, later: Callable[[int], None]
) -> None:
    """The old version of an image goes as a deleted image does; the new one stays."""
    put(KEY, "somebody else's")
    ingest_and_fit(catalog, "b3")
    etag_and_vectors = Image(orchard.words[1:], orchard.vectors)
    assert search(lake, etag_and_vectors)

    later(SETTINGS.retention_days + 1)
    sweep(SETTINGS)

    assert search(lake, etag_and_vectors) == set()
    assert agrees_with_bucket(catalog)


def test_the_last_image_can_be_erased(catalog: Catalog, lake: Path) -> None:
    """Tables that hold nothing any more are tables still."""
    ingest_and_fit(catalog, "b1", KEY)
    erased = image(KEY)

    erase(SETTINGS, [KEY])

    assert search(lake, erased) == set()
    assert keys(catalog, "features") == []
    put(KEY, "again")
    ingest_and_fit(catalog, "b2")
    assert keys(catalog, "components") == [KEY]


def test_statistics_of_other_files_stay(catalog: Catalog, orchard: Image) -> None:
    """A cache entry goes when one of its files has gone, and not otherwise."""
    before = set(list_uris(f"{LAKE}/statistics/"))
    write_bytes(f"{LAKE}/statistics/{MODEL}/damaged.npz", b"PK\x03\x04 nonsense")

    erase(SETTINGS, [KEY])

    left = set(list_uris(f"{LAKE}/statistics/"))
    assert left
    assert left < before


def test_a_run_in_progress_is_waited_for(catalog: Catalog, orchard: Image) -> None:
    """Its step may have the image in memory; nothing is touched until its lease is over."""
    grant_lease(LAKE, Lease("b9", 1, minutes=30, worst_case=1, currency="USD"))

    with pytest.raises(RunInProgressError, match="b9") as refused:
        erase(SETTINGS, [KEY])
    assert refused.value.tokens == ("b9",)
    assert KEY in bucket_versions()

    end_lease(LAKE, "b9")
    erase(SETTINGS, [KEY])
    assert KEY not in bucket_versions()


def test_removals_are_waited_for(
    catalog: Catalog, orchard: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for no cluster, but what they are about to commit would look like nobody's."""
    delete(OTHERS[0])
    sensed(catalog, "b3")
    refuse_deleted = swaps._refuse_deleted

    def just_before_the_commit(*about: Any) -> None:
        patch.undo()  # an erasure that is not refused commits, too
        with pytest.raises(RunInProgressError, match="b3-removals"):
            erase(SETTINGS, [KEY])
        refuse_deleted(*about)

    with monkeypatch.context() as patch:
        patch.setattr(swaps, "_refuse_deleted", just_before_the_commit)
        remove_rows(SETTINGS, {"remove": True, "batch": "b3"})
    erase(SETTINGS, [KEY])

    assert not {KEY, OTHERS[0]} & {*keys(catalog, "features")}


@pytest.mark.parametrize("ended", [True, False])
def test_runs_that_begin_meanwhile_keep_their_files(
    catalog: Catalog, lake: Path, orchard: Image, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """What they commit between the look for rubbish and its deletion is none; no row is lost."""
    put("Cherry/1.jpg")
    sensed(catalog, "b3")
    written, find = featurized("b3"), erasures.find_rubbish

    def find_what_is_not_committed_yet(*about: Any) -> Any:
        found = find(*about)
        commit_features(catalog, manifest_uri("b3"), written)
        if not ended:
            grant_lease(LAKE, Lease("b3", 1, minutes=30, worst_case=1, currency="USD"))
        return found

    monkeypatch.setattr(erasures, "find_rubbish", find_what_is_not_committed_yet)
    if ended:
        erase(SETTINGS, [KEY])
    else:
        with pytest.raises(RunInProgressError, match="rows are gone; the files"):
            erase(SETTINGS, [KEY])
        end_lease(LAKE, "b3")
    monkeypatch.undo()

    assert set(keys(catalog, "features")) == {*OTHERS, "Cherry/1.jpg"}
    erase(SETTINGS, [KEY])
    assert search(lake, orchard) == set()


def test_what_was_current_until_now_can_be_gone_back_to(catalog: Catalog, orchard: Image) -> None:
    """A table that did not change for weeks is as it was for the retention, too."""
    before = open_table("features", catalog).current_snapshot()
    put("Cherry/1.jpg")
    sensed(catalog, "b3")
    commit_features(catalog, manifest_uri("b3"), featurized("b3"))
    table = open_table("features", catalog)
    first, last = (s.timestamp_ms for s in (before, table.current_snapshot()))
    assert first < last

    def expired(milliseconds: int) -> tuple[int, ...]:
        return expire_snapshots(table, datetime.fromtimestamp(milliseconds / 1000, UTC))

    assert before.snapshot_id not in expired(last)
    assert before.snapshot_id in expired(last + 1)


def test_what_only_forgets_keeps_no_state_before_it(catalog: Catalog, orchard: Image) -> None:
    """The sweep's own snapshot is the same state: the one before it names what was deleted."""
    delete(KEY)
    sensed(catalog, "b3")
    remove_rows(SETTINGS, {"remove": True, "batch": "b3"})
    table = open_table("features", catalog)
    removal = table.current_snapshot()
    forget_deleted_files(table)
    table.refresh()
    assert table.current_snapshot() != removal

    then = datetime.fromtimestamp((removal.timestamp_ms + 1) / 1000, UTC)

    assert removal.snapshot_id in expire_snapshots(table, then)


def test_a_tag_that_keeps_history_is_named(catalog: Catalog, orchard: Image) -> None:
    """A snapshot that somebody tagged would keep the image; it is theirs to let go."""
    table = open_table("features", catalog)
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "audit").commit()

    with pytest.raises(HeldSnapshotsError, match="audit"):
        erase(SETTINGS, [KEY])
    assert KEY in bucket_versions()


def test_what_was_interrupted_is_finished_by_the_next(
    catalog: Catalog, lake: Path, orchard: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 fails after the rows went: the receipt says unfinished, erasing again does the rest."""

    def fail(*_: object) -> None:
        raise UndeletedError("S3 did not delete.", uris=(), reason="SlowDown")

    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "delete_all", fail)
        with pytest.raises(UndeletedError):
            erase(SETTINGS, [KEY])
    (interrupted,) = list_uris(f"{LAKE}/erasures/")
    assert read_json(interrupted)["finished_at"] is None

    erase(SETTINGS, [KEY])

    assert search(lake, orchard) == set()


def test_files_of_a_run_that_has_not_committed_stay(
    catalog: Catalog, orchard: Image, later: Callable[[int], None]
) -> None:
    """What a step wrote today is committed later; what nobody committed for so long is rubbish."""
    put("Cherry/1.jpg")
    sensed(catalog, "b3")
    result = featurized("b3")

    sweep(SETTINGS)
    commit_features(catalog, manifest_uri("b3"), result)
    orphan = f"{LAKE}/tables/features/data/b4/1/part-00000.parquet"
    write_bytes(orphan, b"PAR1 of nobody")
    later(SETTINGS.retention_days + 1)
    sweep(SETTINGS)

    assert "Cherry/1.jpg" in keys(catalog, "features")
    assert not exists(orphan)


def test_a_table_that_is_not_understood_is_left_alone(catalog: Catalog, orchard: Image) -> None:
    """Files that should be there and are not: nothing is deleted, and they are named."""
    (lost, *_) = data_files(open_table("features", catalog))
    sweeps.delete_all("fruits-lake", [{"Key": lost.uri.removeprefix(f"{LAKE}/")}])
    before = set(list_uris(f"{LAKE}/"))

    with pytest.raises(LostFilesError) as error:
        sweep(SETTINGS)
    assert error.value.uris == (lost.uri,)
    assert before <= set(list_uris(f"{LAKE}/"))


@pytest.mark.parametrize("text", ["Apple/", "", "s3://elsewhere/Apple/1.jpg"])
def test_what_is_no_image_is_refused(text: str) -> None:
    """A folder or another bucket is a slip, and a costly one."""
    with pytest.raises(WrongKeyError):
        image_key(SETTINGS, text)


def test_a_uri_means_its_key() -> None:
    """It may be pasted from a row's image_uri."""
    assert image_key(SETTINGS, f"s3://fruits-images/{KEY}") == KEY


def test_the_command_asks_first(
    catalog: Catalog,
    lake: Path,
    orchard: Image,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without the word nothing happens; with it the receipt is named, and a slip is noticed."""
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    assert main([KEY, "Appel/1.jpg"]) == 2
    said = capsys.readouterr().out.splitlines()
    assert ["no row has" in line for line in said if ".jpg" in line] == [True, False]
    assert KEY in bucket_versions()

    monkeypatch.setattr("builtins.input", lambda _: "erase")
    assert main([KEY]) == 0
    assert f"{LAKE}/erasures/" in capsys.readouterr().out
    assert main(["--yes", "Appel/1.jpg"]) == 0
    assert "mistyped" in capsys.readouterr().out


def agrees_with_bucket(catalog: Catalog) -> bool:
    """Say whether tables and bucket hold the same versions, with the vectors that are theirs."""
    rows = table_rows(catalog, "features")
    known = {row["image_key"]: row["etag"] for row in rows}
    known |= {row["image_key"]: row["etag"] for row in table_rows(catalog, "quarantine")}
    return (
        known == bucket_versions()
        and all(row["features"] == vector(row["etag"]) for row in rows)
        and keys(catalog, "components") == keys(catalog, "features")
    )
