"""What a PCA step is given to read: the committed features, and what the current version lacks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from fruits.errors import NoFeaturesError
from fruits.lake import LakeFile, data_files, equals, newest_version, open_table, scan_files
from fruits.objects import upload, write_json
from fruits.scratch import Scratch, scratch
from fruits.versions import least_images, load_featurized_and_projected

IMAGES = pa.schema([("image_key", pa.string()), ("etag", pa.string())])
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class CurrentVersion:
    """The newest PCA version of the features, its *model* folder, and which images it lacks.

    *missing* is the URI of their list (image_key, etag), which has *missing_rows* rows.
    """

    model_version: str
    model: str
    missing: str
    missing_rows: int
    components_snapshot_id: int


@dataclass(frozen=True)
class PcaInput:
    """The committed features that a PCA step reads: one snapshot, one feature model."""

    snapshot_id: int
    feature_model: str
    files: tuple[LakeFile, ...]
    current: CurrentVersion | None


def is_reducible(catalog: Catalog, feature_model: str) -> bool:
    """Say whether enough images have features of *feature_model* for a PCA step."""
    files = scan_files(open_table("features", catalog), equals("feature_model", feature_model))
    least = least_images(open_table("components", catalog), feature_model)
    return sum(file.record_count for file in files) >= least


def no_features(feature_model: str) -> NoFeaturesError:
    """Return the error that says that there is nothing to reduce."""
    return NoFeaturesError(
        f"Too few images have features of {feature_model}: there is nothing to reduce.",
        "A first PCA takes two: put more images into the bucket.",
        feature_model=feature_model,
    )


def write_pca_input(catalog: Catalog, feature_model: str, models: str, folder: str) -> PcaInput:
    """Write features.json into *folder*: all committed features of *feature_model*.

    It names the newest version of that feature model, which lies under *models*, and beside it
    `missing.parquet` lists the images that have no components of that version.

    NoFeaturesError if no image has features. The step reads the files as plain Parquet: a file of
    the partitioned table holds one feature model only.
    """
    table = open_table("features", catalog)
    snapshot = table.current_snapshot()
    files = data_files(table, equals("feature_model", feature_model)) if snapshot else []
    if not snapshot or not files:
        raise no_features(feature_model)
    current = _current(catalog, table, feature_model, models, folder)
    pca_input = PcaInput(snapshot.snapshot_id, feature_model, tuple(files), current)
    content: dict[str, Any] = asdict(pca_input)
    write_json(f"{folder}/features.json", content)
    return pca_input


def _current(
    catalog: Catalog, features: Table, feature_model: str, models: str, folder: str
) -> CurrentVersion | None:
    components = open_table("components", catalog)
    version, snapshot = newest_version(components, feature_model), components.current_snapshot()
    if version is None or snapshot is None:
        return None
    with scratch() as space:
        # A table that is open stays as it was then, whoever commits meanwhile.
        load_featurized_and_projected(space, features, components, feature_model, version)
        uri = f"{folder}/missing.parquet"
        rows = _write_missing(space, uri)
    return CurrentVersion(version, f"{models}/{version}/", uri, rows, snapshot.snapshot_id)


def _write_missing(space: Scratch, uri: str) -> int:
    path, rows = space.folder / "missing.parquet", 0
    with pq.ParquetWriter(path, IMAGES, compression="zstd") as writer:
        query = "SELECT image_key, etag FROM missing ORDER BY image_key, etag"
        for batch in space.stream(query, BATCH_ROWS):
            writer.write_batch(batch.cast(IMAGES))
            rows += batch.num_rows
    upload(path, uri)
    return rows
