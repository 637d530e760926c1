"""Sensing: what the bucket holds against what the tables hold, written down as a manifest.

An image version is the pair (image_key, etag). Let *listed* be the versions under the prefix.

added    listed, but neither in `features` of this feature model nor in `quarantine` (broken bytes
         are broken for every feature model).
removed  in a table, but not listed: "deleted" when the key is gone, "replaced" when the key is
         listed with another etag. Every feature model's features, quarantine and components count:
         a row of any of them describes bytes that no longer exist. So a deleted image vanishes
         from the rows of all feature models, and a replacement that is featurized with one model
         takes the old version's rows of the others with it; their next batch adds the new one.
deferred added, but beyond `max_images` or `max_inferences`; the oldest come first. What a deferred
         version replaces is not removed: the image keeps its old row until the new one is there.

A run *beside* the current feature model looks at its own rows and the quarantine alone, and removes
nothing but what it replaces: deleted images are for the next ordinary run. *retry_quarantined* adds
again what is in quarantine and still listed, and removes its row as "retried".

Everything per key happens in Arrow and DuckDB, so memory does not grow with the bucket. Versions
are compared by a number, 128 bits of MD5 over etag and key: ten million of them fit in memory where
their names would not, and two of them share one with a chance of about 1 in 10^25.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression
from pyiceberg.table import Table

from fruits.cluster_sizing import BYTES_PER_INFERENCE
from fruits.errors import WrongBucketError
from fruits.gathering import Gathering
from fruits.lake import IMAGES_BUCKET, equals, open_table, starts_with
from fruits.listing import list_objects
from fruits.manifests import (
    ADDED,
    REMOVED,
    ROW_GROUP,
    Counts,
    Lists,
    Manifest,
    publish,
    write_list,
)
from fruits.objects import split_uri
from fruits.scans import stream_rows
from fruits.scratch import ROWS_PER_INSERT, Scratch, scratch

log = logging.getLogger(__name__)

VERSION = "md5_number(etag || ' ' || image_key)"  # an etag has no spaces
# An image's work in bytes: whole numbers, whose sum does not depend on their order.
WORK = f"sum(size_bytes + {BYTES_PER_INFERENCE})"
IMAGE = r"\.(jpg|jpeg|png|webp|bmp|gif|tif|tiff|avif|jp2|pnm|ppm|pgm|pbm)$"
EXTENSIONS_COUNTED = 20
PROGRESS_SECONDS = 5.0


@dataclass
class Comparison:
    """Two sets of image versions in a scratch database, and what sets them apart.

    It is a listing's sink: `add` and `forget` may be called from several threads.
    """

    scratch: Scratch
    feature_model: str
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: Gathering = field(default_factory=lambda: Gathering(ROWS_PER_INSERT))
    _listed: int = 0
    _reported: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.scratch.run(
            "CREATE TABLE listed (span VARCHAR NOT NULL, image_key VARCHAR NOT NULL,"
            " etag VARCHAR NOT NULL, size_bytes BIGINT NOT NULL,"
            " last_modified TIMESTAMPTZ NOT NULL, version UHUGEINT NOT NULL)"
        )
        self.scratch.run(
            "CREATE TABLE known (image_key VARCHAR NOT NULL, etag VARCHAR NOT NULL,"
            " processed BOOLEAN NOT NULL, version UHUGEINT NOT NULL)"
        )
        self.scratch.run("CREATE TABLE quarantined (image_key VARCHAR, etag VARCHAR)")

    def add(self, span: str, batch: pa.RecordBatch) -> None:
        """Take listed objects of *span*."""
        rows = batch.append_column("span", pa.repeat(span, batch.num_rows))
        with self._lock:
            self._listed += batch.num_rows
            self._insert_listed(self._waiting.add(rows))
            if time.monotonic() - self._reported > PROGRESS_SECONDS:
                self._reported = time.monotonic()
                log.info("%d objects listed", self._listed)

    def forget(self, span: str) -> None:
        """Drop the listed objects of *span*."""
        with self._lock:
            self._insert_listed(self._waiting.take())
            self.scratch.run("DELETE FROM listed WHERE span = ?", span)
            self._listed = self.scratch.value("SELECT count(*) FROM listed")

    def add_known(self, batches: Iterable[pa.RecordBatch], *, processed: bool | None) -> None:
        """Take table rows; *processed* if this feature model need not see these versions again.

        None: each row's feature_model says so.
        """
        done = "feature_model = ?" if processed is None else "?"
        select = f"SELECT image_key, etag, {done}, {VERSION} FROM incoming"
        value = self.feature_model if processed is None else processed
        self.scratch.insert_all("known", select, batches, value)

    def add_quarantined(self, batches: Iterable[pa.RecordBatch], *, retry: bool) -> None:
        """Take the rows of quarantine; with *retry* their versions are to be seen again."""
        batches = list(batches)  # there are few
        self.add_known(batches, processed=not retry)
        if retry:
            select = "SELECT image_key, etag FROM incoming"
            self.scratch.insert_all("quarantined", select, batches)

    def compare(
        self,
        bucket: str,
        max_images: int | None,
        *,
        max_inferences: float | None = None,
        beside: bool = False,
    ) -> None:
        """Make the tables `added` and `removed` out of `listed` and `known`."""
        self._insert_listed(self._waiting.take())
        run = self.scratch.run
        run(
            "CREATE VIEW images AS SELECT image_key, etag, size_bytes, last_modified, version"
            f" FROM listed WHERE regexp_matches(lower(image_key), '{IMAGE}')"
        )
        run(
            "CREATE TABLE fresh AS SELECT image_key, etag, size_bytes, last_modified FROM images"
            " ANTI JOIN (SELECT version FROM known WHERE processed) USING (version)"
        )
        run(
            "CREATE TABLE added AS SELECT image_key, ? || image_key AS image_uri,"
            # The parent folder's name; '' for a key without a folder.
            " split_part(image_key, '/', -2) AS label, etag, size_bytes, last_modified FROM fresh"
            f" ORDER BY last_modified, image_key {'' if max_images is None else 'LIMIT ?'}",
            *([f"s3://{bucket}/"] if max_images is None else [f"s3://{bucket}/", max_images]),
        )
        if max_inferences is not None:
            self._cut(math.floor(max_inferences * BYTES_PER_INFERENCE))
        run(
            "CREATE TABLE gone AS SELECT DISTINCT image_key, etag FROM known"
            " ANTI JOIN (SELECT version FROM images) USING (version)"
        )
        run("CREATE TABLE still AS SELECT image_key FROM images SEMI JOIN gone USING (image_key)")
        run(
            "CREATE TABLE removed AS SELECT image_key, ? || image_key AS image_uri, etag,"
            " CASE WHEN image_key IN (SELECT image_key FROM still) THEN 'replaced'"
            " ELSE 'deleted' END AS reason"
            " FROM gone WHERE image_key NOT IN"
            " (SELECT image_key FROM fresh ANTI JOIN added USING (image_key))",
            f"s3://{bucket}/",
        )
        if beside:
            run(
                "DELETE FROM removed WHERE reason = 'deleted'"
                " OR image_key NOT IN (SELECT image_key FROM added)"
            )
        run(
            "INSERT INTO removed SELECT image_key, image_uri, etag, 'retried' FROM added"
            " SEMI JOIN quarantined USING (image_key, etag)"
        )

    def _cut(self, most: int) -> None:
        """Keep the oldest of `added` that are at most so much WORK, and one image in any case."""
        if self.scratch.value(f"SELECT coalesce({WORK}, 0) FROM added") > most:
            self.scratch.run(
                "CREATE OR REPLACE TABLE added AS SELECT * FROM added WINDOW older AS"
                " (ORDER BY last_modified, image_key ROWS UNBOUNDED PRECEDING)"
                f" QUALIFY {WORK} OVER older <= ? OR row_number() OVER older = 1",
                most,
            )

    def _insert_listed(self, rows: pa.Table | None) -> None:
        if rows is not None:
            select = f"SELECT span, * EXCLUDE (span), {VERSION} FROM incoming"
            self.scratch.insert("listed", select, rows)

    def added(self) -> Iterator[pa.RecordBatch]:
        """Yield the images to featurize, sorted by label and image_key."""
        columns = ", ".join(ADDED.names)
        query = f"SELECT {columns} FROM added ORDER BY label, image_key"
        return self.scratch.stream(query, ROW_GROUP)

    def removed(self) -> Iterator[pa.RecordBatch]:
        """Yield the versions that are gone, sorted by image_key."""
        query = "SELECT image_key, image_uri, etag, reason FROM removed ORDER BY image_key, etag"
        return self.scratch.stream(query, ROW_GROUP)

    def counts(self) -> Counts:
        """Count what `compare` found."""
        value = self.scratch.value
        listed = value("SELECT count(*) FROM images")
        fresh = value("SELECT count(*) FROM fresh")
        added = value("SELECT count(*) FROM added")
        removed = "SELECT count(*) FROM removed WHERE reason = ?"
        return Counts(
            listed=listed,
            unchanged=listed - fresh,
            added=added,
            replaced=value(removed, "replaced"),
            deleted=value(removed, "deleted"),
            ignored=value("SELECT count(*) FROM listed") - listed,
            deferred=fresh - added,
            retried=value(removed, "retried"),
        )

    def ignored_extensions(self) -> dict[str, int]:
        """Count the objects that are no images by extension: 20 by name, then all others."""
        rows = self.scratch.rows(
            "SELECT coalesce(nullif(lower(regexp_extract(image_key, '\\.[^./]+$')), ''),"
            " '(none)') AS extension, count(*) AS objects FROM listed"
            f" WHERE NOT regexp_matches(lower(image_key), '{IMAGE}')"
            " GROUP BY extension ORDER BY objects DESC, extension"
        )
        counted = dict(rows[:EXTENSIONS_COUNTED])
        others = sum(objects for _, objects in rows[EXTENSIONS_COUNTED:])
        return counted | ({"(other)": others} if others else {})

    def rows_under_prefix(self) -> int:
        """Count the distinct image versions that the tables hold under the prefix."""
        return int(self.scratch.value("SELECT count(DISTINCT version) FROM known"))

    def added_bytes(self) -> int:
        """Sum the sizes of the images to featurize."""
        return int(self.scratch.value("SELECT coalesce(sum(size_bytes), 0) FROM added"))


def sense(
    catalog: Catalog,
    *,
    images_uri: str,
    manifest_uri: str,
    batch: str,
    feature_model: str,
    max_images: int | None = None,
    max_inferences: float | None = None,
    beside: bool = False,
    retry_quarantined: bool = False,
) -> Manifest:
    """Compare the images under *images_uri* with the tables; write and return *batch*'s manifest.

    *images_uri* is `s3://bucket/prefix`, the prefix a string as in S3; *manifest_uri* is the
    folder that the manifest goes to. Sensing again for the same batch overwrites it. It lists at
    most *max_images*, and no more than *max_inferences* of work (`fruits.cluster_sizing.Load`), but
    one at least. *beside* says that the tables' current feature model is another one, whose rows
    are left alone.
    WrongBucketError if the tables describe another bucket; ListingError if the listing breaks off.
    """
    bucket, prefix = split_uri(images_uri)
    features = open_table("features", catalog)
    require_bucket(features, bucket)
    with scratch() as space:
        comparison = Comparison(space, feature_model)
        list_objects(bucket, prefix, comparison)
        _add_known(comparison, catalog, prefix, beside=beside, retry_quarantined=retry_quarantined)
        comparison.compare(bucket, max_images, max_inferences=max_inferences, beside=beside)
        lists = Lists(
            write_list(space.folder / "added.parquet", ADDED, comparison.added()),
            write_list(space.folder / "removed.parquet", REMOVED, comparison.removed()),
        )
        snapshot = features.current_snapshot()
        manifest = Manifest(
            batch=batch,
            images_uri=images_uri,
            feature_model=feature_model,
            features_snapshot_id=snapshot.snapshot_id if snapshot else None,
            created_at=datetime.now(UTC).isoformat(),
            counts=comparison.counts(),
            ignored_extensions=comparison.ignored_extensions(),
            added_bytes=comparison.added_bytes(),
            rows_under_prefix=comparison.rows_under_prefix(),
            digest=lists.digest(),
            beside=beside,
        )
        publish(manifest, lists, manifest_uri)
    return manifest


def require_bucket(features: Table, bucket: str) -> None:
    """Raise WrongBucketError unless the features table describes *bucket*, or nothing yet.

    An image_key is unique within its bucket only: two buckets in one lake would replace each
    other's rows.
    """
    expected = features.properties.get(IMAGES_BUCKET)
    if expected and expected != bucket:
        raise WrongBucketError(
            f"The lake describes the images of s3://{expected}, not of s3://{bucket}.",
            "Correct the images URI, or use a lake of its own for the other bucket.",
            expected=expected,
            bucket=bucket,
        )


def _add_known(
    comparison: Comparison, catalog: Catalog, prefix: str, *, beside: bool, retry_quarantined: bool
) -> None:
    under = starts_with("image_key", prefix)
    features, quarantine, components = (
        open_table(name, catalog) for name in ("features", "quarantine", "components")
    )
    whose = equals("feature_model", comparison.feature_model) if beside else AlwaysTrue()
    rows = _key_batches(features, And(under, whose), "feature_model")
    comparison.add_known(rows, processed=None)
    comparison.add_quarantined(_key_batches(quarantine, under), retry=retry_quarantined)
    if not beside:
        comparison.add_known(_key_batches(components, under), processed=False)


def _key_batches(
    table: Table, row_filter: BooleanExpression, *more: str
) -> Iterator[pa.RecordBatch]:
    return stream_rows(table.scan(row_filter, selected_fields=("image_key", "etag", *more)))
