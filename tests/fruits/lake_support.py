"""What lake tests share: images in the bucket, and step outputs that keep the written contract.

The steps' own code is not used: these files are the contract as another program would write it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog

from fruits.commits import commit_features, commit_removals
from fruits.component_commits import commit_components
from fruits.discovery import sense
from fruits.lake import open_table
from fruits.manifests import ADDED, REMOVED, Counts, Lists, Manifest, publish, write_list
from fruits.objects import client, read_bytes, write_bytes, write_json
from fruits.pca_inputs import write_pca_input

BUCKET = "fruits-images"
LAKE = "s3://fruits-lake"
MODEL = "MobileNetV2-224-bilinear-v2-715706dbcc4b"
OTHER_MODEL = "ResNet50-224-bilinear-v2-0123456789ab"
BROKEN = "OSError: image file is truncated (13 bytes not processed)"
LENGTH = 6
TIME = pa.timestamp("us", tz="UTC")
COMMON = [
    ("image_key", pa.string()),
    ("image_uri", pa.string()),
    ("label", pa.string()),
    ("etag", pa.string()),
    ("size_bytes", pa.int64()),
    ("last_modified", TIME),
]
FLOATS = pa.list_(pa.field("element", pa.float32()))
FEATURES = pa.schema(
    [
        *COMMON,
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("features", FLOATS),
        ("feature_model", pa.string()),
        ("batch", pa.string()),
    ]
)
QUARANTINE = pa.schema(
    [*COMMON, ("reason", pa.string()), ("error_message", pa.string()), ("batch", pa.string())]
)
CHANGED = pa.schema([("image_key", pa.string()), ("etag", pa.string()), ("reason", pa.string())])
COMPONENTS = pa.schema(
    [
        ("image_key", pa.string()),
        ("label", pa.string()),
        ("etag", pa.string()),
        ("components", FLOATS),
        ("model_version", pa.string()),
        ("batch", pa.string()),
    ]
)
Rows = list[dict[str, Any]]
Edit = Callable[[Rows], Rows]


def keep(rows: Rows) -> Rows:
    """Edit nothing."""
    return rows


def put(key: str, content: str = "") -> None:
    """Put an image; other content, other etag."""
    client().put_object(Bucket=BUCKET, Key=key, Body=f"{key} {content}".encode())


def delete(key: str) -> None:
    """Delete an image."""
    client().delete_object(Bucket=BUCKET, Key=key)


def manifest_uri(batch: str) -> str:
    """Return the folder of a batch's manifest."""
    return f"{LAKE}/manifests/{batch}"


def sensed(
    catalog: Catalog,
    batch: str,
    prefix: str = "",
    model: str = MODEL,
    max_images: int | None = None,
    **more: Any,
) -> Manifest:
    """Sense the bucket of these tests; *more* is beside, max_inferences, retry_quarantined."""
    return sense(
        catalog,
        images_uri=f"s3://{BUCKET}/{prefix}",
        manifest_uri=manifest_uri(batch),
        batch=batch,
        feature_model=model,
        max_images=max_images,
        **more,
    )


def listed(batch: str, name: str) -> Rows:
    """Return the rows of a manifest's list: added or removed."""
    content = read_bytes(f"{manifest_uri(batch)}/{name}.parquet")
    return pq.read_table(io.BytesIO(content)).to_pylist()


def vector(etag: str) -> list[float]:
    """Return features that tell one etag from another."""
    digest = hashlib.sha256(etag.encode()).digest()
    return np.frombuffer(digest[: 2 * LENGTH], np.uint16).astype(np.float32).tolist()


def featurized(
    batch: str,
    attempt: str = "1",
    *,
    model: str = MODEL,
    broken: Iterable[str] = (),
    changed: Iterable[str] = (),
    edit: Edit = keep,
    edit_result: Callable[[dict[str, Any]], None] = lambda _: None,
    files: int = 2,
) -> str:
    """Write what a featurize step writes for the manifest of *batch*; return result.json's URI."""
    broken, changed = set(broken), set(changed)
    added = listed(batch, "added")
    extra = {"width": 9, "height": 8, "feature_model": model, "batch": batch}
    features = [
        row | extra | {"features": vector(row["etag"])}
        for row in added
        if row["image_key"] not in broken | changed
    ]
    quarantine = [
        row | {"reason": "truncated", "error_message": BROKEN, "batch": batch}
        for row in added
        if row["image_key"] in broken
    ]
    gone = [row | {"reason": "changed"} for row in added if row["image_key"] in changed]
    work = f"{LAKE}/attempts/{batch}/featurize-{attempt}"
    result: dict[str, Any] = {
        "step": "featurize",
        "batch": batch,
        "feature_model": model,
        "engine": "litert",
        "images": len(added),
        "features": written(f"features/data/{batch}/{attempt}", FEATURES, edit(features), files),
        "quarantine": written(f"quarantine/data/{batch}/{attempt}", QUARANTINE, quarantine, 1)
        | {"reasons": {"truncated": len(quarantine)} if quarantine else {}},
        "changed": {
            "rows": len(gone),
            "files": [_write(f"{work}/changed-0.parquet", CHANGED, gone)],
        }
        if gone
        else {"rows": 0, "files": []},
    }
    edit_result(result)
    write_json(f"{work}/result.json", result)
    return f"{work}/result.json"


def reprocess(
    catalog: Catalog, batch: str, model: str = OTHER_MODEL, *, fit: bool = True, **options: Any
) -> None:
    """Take a batch of another feature model through features and components, beside the current."""
    sensed(catalog, batch, model=model, beside=True, **options)
    commit_removals(catalog, manifest_uri(batch))
    commit_features(catalog, manifest_uri(batch), featurized(batch, model=model))
    commit_components(catalog, reduced(catalog, batch, model=model, fit=fit))


def ingest(catalog: Catalog, batch: str, *images: str, **options: Any) -> None:
    """Put *images*, and take what changed through sensing, removals and features."""
    for key in images:
        put(key)
    sensed(catalog, batch)
    commit_removals(catalog, manifest_uri(batch), confirmed=True)
    result = featurized(batch, **options)
    commit_features(catalog, manifest_uri(batch), result, max_quarantine_share=0.5)


def ingest_and_fit(catalog: Catalog, batch: str, *images: str, **options: Any) -> None:
    """Do as :func:`ingest` does, and commit components of a version fitted to all images."""
    ingest(catalog, batch, *images, **options)
    commit_components(catalog, reduced(catalog, batch))


def reduced(
    catalog: Catalog,
    batch: str,
    attempt: str = "1",
    *,
    model: str = MODEL,
    k: int = 2,
    edit: Edit = keep,
    fit: bool = True,
    files: int = 2,
) -> str:
    """Write what a PCA step writes for the features as they are; return result.json's URI.

    Without *fit* it keeps the newest version and projects what has no components of it.
    """
    work = f"{LAKE}/attempts/{batch}/pca-{attempt}"
    pca_input = write_pca_input(catalog, model, f"{LAKE}/models/pca", work)
    current = None if fit else pca_input.current
    version = current.model_version if current else f"{batch}-{attempt}"
    wanted = read_list(current.missing) if current else None
    rows = [
        {name: row[name] for name in ("image_key", "label", "etag")}
        | {"components": row["features"][:k], "model_version": version, "batch": batch}
        for row in table_rows(catalog, "features")
        if row["feature_model"] == model
        and (wanted is None or (row["image_key"], row["etag"]) in wanted)
    ]
    result = {
        "step": "pca",
        "batch": batch,
        "model_version": version,
        "fitted": fit,
        "reason": "the test says so",
        "explained_variance_kept": 0.96,
        "features_snapshot_id": pca_input.snapshot_id,
        "components_snapshot_id": current.components_snapshot_id if current else None,
        "model": {
            "model_version": version,
            "feature_model": model,
            "features_snapshot_id": pca_input.snapshot_id,
            "k": k,
            "explained_variance_kept": 0.96,
        },
        "components": written(f"components/data/{batch}/{attempt}", COMPONENTS, edit(rows), files),
        "warnings": [],
    }
    write_json(f"{work}/result.json", result)
    return f"{work}/result.json"


def read_list(uri: str) -> set[tuple[str, str]]:
    """Return the (image_key, etag) of a list of images."""
    rows = pq.read_table(io.BytesIO(read_bytes(uri))).to_pylist()
    return {(row["image_key"], row["etag"]) for row in rows}


def written(folder: str, schema: pa.Schema, rows: Rows, files: int) -> dict[str, Any]:
    """Write *rows*, in their order, as *files* Parquet files; return what result.json says."""
    size = -(-len(rows) // files) or 1
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return {
        "rows": len(rows),
        "files": [
            _write(f"{LAKE}/tables/{folder}/part-{number:05}.parquet", schema, part)
            for number, part in enumerate(parts)
        ],
    }


def _write(uri: str, schema: pa.Schema, rows: Rows) -> dict[str, Any]:
    sink = io.BytesIO()
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    pq.write_table(pa.table(columns, schema=schema), sink, row_group_size=50)
    write_bytes(uri, sink.getvalue())
    return {"uri": uri, "rows": len(rows), "bytes": len(sink.getvalue())}


def listed_image(key: str) -> dict[str, Any]:
    """Return a row of a manifest's list of added images, of an image that need not exist."""
    return {
        "image_key": key,
        "image_uri": f"s3://{BUCKET}/{key}",
        "label": key.rpartition("/")[0],
        "etag": f"etag of {key}",
        "size_bytes": 7,
        "last_modified": datetime(2026, 11, 21, tzinfo=UTC),
    }


def published(
    batch: str, folder: Path, *, added: Rows = (), removed: Rows = (), rows: int = 0
) -> str:
    """Write a manifest of given lists, without a listing; return its folder's URI."""
    lists = Lists(folder / f"{batch}-added.parquet", folder / f"{batch}-removed.parquet")
    for path, schema, content in ((lists.added, ADDED, added), (lists.removed, REMOVED, removed)):
        write_list(path, schema, iter(pa.Table.from_pylist(list(content), schema).to_batches()))
    reasons = [row["reason"] for row in removed]
    manifest = Manifest(
        batch=batch,
        images_uri=f"s3://{BUCKET}/",
        feature_model=MODEL,
        features_snapshot_id=None,
        created_at="2026-11-21T03:00:00+00:00",
        counts=Counts(
            listed=len(added),
            unchanged=0,
            added=len(added),
            replaced=reasons.count("replaced"),
            deleted=reasons.count("deleted"),
            ignored=0,
            deferred=0,
        ),
        ignored_extensions={},
        added_bytes=0,
        rows_under_prefix=rows,
        digest=lists.digest(),
    )
    publish(manifest, lists, manifest_uri(batch))
    return manifest_uri(batch)


def table_rows(catalog: Catalog, name: str) -> Rows:
    """Return a table's rows as dicts, sorted by image_key."""
    rows: Rows = open_table(name, catalog).scan().to_arrow().to_pylist()
    return sorted(rows, key=lambda row: (row["image_key"], row["etag"]))


def keys(catalog: Catalog, name: str) -> list[str]:
    """Return the image_keys of a table, sorted, with their repetitions."""
    return [row["image_key"] for row in table_rows(catalog, name)]


def bucket_versions() -> dict[str, str]:
    """Return image_key -> etag of everything in the bucket."""
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {
        item["Key"]: item["ETag"].strip('"') for page in pages for item in page.get("Contents", [])
    }
