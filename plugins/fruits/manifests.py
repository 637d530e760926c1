"""The manifest: the written list of what one batch adds and removes, and how it was counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fruits.errors import FruitsError
from fruits.objects import download, exists, read_json, split_uri, upload, write_json
from fruits.scratch import Scratch

ROW_GROUP = 4096


class GoneManifestError(FruitsError):
    """A batch has no manifest any more; field: uri."""

    uri: str


def _schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


ADDED = _schema(
    {
        "image_key": pa.string(),
        "image_uri": pa.string(),
        "label": pa.string(),
        "etag": pa.string(),
        "size_bytes": pa.int64(),
        "last_modified": pa.timestamp("us", tz="UTC"),
    }
)
REMOVED = _schema(dict.fromkeys(("image_key", "image_uri", "etag", "reason"), pa.string()))


@dataclass(frozen=True)
class Counts:
    """Images by what becomes of them. listed = unchanged + added + deferred.

    *replaced* and *deleted* count versions (image_key, etag) that a table holds and the bucket
    does not; *ignored* counts objects without an image extension; *deferred* waits for another run.
    *retried* are those of added that were in quarantine.
    """

    listed: int
    unchanged: int
    added: int
    replaced: int
    deleted: int
    ignored: int
    deferred: int
    retried: int = 0


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says. *digest* is of the two lists: the same lists, the same digest."""

    batch: str
    images_uri: str
    feature_model: str
    features_snapshot_id: int | None
    created_at: str
    counts: Counts
    ignored_extensions: dict[str, int]
    added_bytes: int
    rows_under_prefix: int
    digest: str
    beside: bool = False  # the tables' current feature model is another one

    @property
    def made_from(self) -> str:
        """What tells commits of this sensing from those of another, though it found the same.

        A run that is cleared keeps its batch: other weights, or nodes that decode what they could
        not, give the same lists other outcomes.
        """
        return f"{self.digest} {self.feature_model} {self.created_at}"

    @property
    def bucket(self) -> str:
        """The bucket of the images."""
        return split_uri(self.images_uri)[0]


@dataclass(frozen=True)
class Lists:
    """The two lists of a manifest as local Parquet files, before they are published."""

    added: Path
    removed: Path

    def digest(self) -> str:
        """Return the sha256 of both lists, in hex."""
        whole = hashlib.sha256()
        for path in (self.added, self.removed):
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()


def write_list(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Path:
    """Write *batches* to a local Parquet file, a row group per batch."""
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches:
            writer.write_table(
                pa.Table.from_batches([batch]).cast(schema), row_group_size=ROW_GROUP
            )
    return path


def publish(manifest: Manifest, lists: Lists, manifest_uri: str) -> None:
    """Write the manifest under *manifest_uri* (a folder); manifest.json last, so it says complete.

    A manifest of the same batch that lies there is overwritten.
    """
    folder = manifest_uri.rstrip("/")
    upload(lists.added, f"{folder}/added.parquet")
    upload(lists.removed, f"{folder}/removed.parquet")
    write_json(f"{folder}/manifest.json", asdict(manifest))


def require_manifest(manifest_uri: str) -> None:
    """Raise GoneManifestError if there is no manifest under *manifest_uri* any more."""
    uri = f"{manifest_uri.rstrip('/')}/manifest.json"
    if not exists(uri):
        raise GoneManifestError(
            "The list of what the run found is gone: it was older than FRUITS_RETENTION_DAYS, or "
            "images were erased meanwhile.",
            "Clear sense_changes with its downstream tasks, or trigger another run.",
            uri=uri,
        )


def read_manifest(manifest_uri: str) -> Manifest:
    """Return the manifest under *manifest_uri*; MissingObjectError if sensing did not finish."""
    content: dict[str, Any] = read_json(f"{manifest_uri.rstrip('/')}/manifest.json")
    content["counts"] = Counts(**content["counts"])
    return Manifest(**content)


def read_list(manifest_uri: str, name: str, folder: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the list *name* (added, removed) through a local copy under *folder*."""
    path = download(f"{manifest_uri.rstrip('/')}/{name}.parquet", folder / f"{name}.parquet")
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=65_536)


def load_manifest(space: Scratch, manifest_uri: str) -> None:
    """Make the tables `expected` (image_key, etag) and `removed` (…, reason) of a manifest."""
    space.run("CREATE TABLE expected (image_key VARCHAR, etag VARCHAR)")
    space.run("CREATE TABLE removed (image_key VARCHAR, etag VARCHAR, reason VARCHAR)")
    added = read_list(manifest_uri, "added", space.folder)
    space.insert_all("expected", "SELECT image_key, etag FROM incoming", added)
    removed = read_list(manifest_uri, "removed", space.folder)
    space.insert_all("removed", "SELECT image_key, etag, reason FROM incoming", removed)
