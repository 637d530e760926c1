"""What the pca step is given: the committed features, and the version that is current so far."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fruits_jobs.bases import CannotFit
from fruits_jobs.data_files import RowsDiffer
from fruits_jobs.objects import open_parquet, read_json


@dataclass(frozen=True)
class Current:
    """The newest version of the feature model: its *model* folder, and which images it lacks.

    *missing* is the URI of a list (image_key, etag) of *missing_rows* rows: the images that have
    features and no components of this version. They are as of *components_snapshot_id*.
    """

    model_version: str
    model: str
    missing: str
    missing_rows: int
    components_snapshot_id: int


@dataclass(frozen=True)
class Source:
    """The committed features: *files* as (uri, rows), what they are a snapshot of, the version."""

    files: list[tuple[str, int]]
    feature_model: str
    snapshot_id: int
    current: Current | None

    @property
    def rows(self) -> int:
        """The number of images."""
        return sum(rows for _, rows in self.files)


def read_source(uri: str, region: str) -> Source:
    """Read features.json; CannotFit if it lists no rows."""
    content = read_json(uri, region)
    files = [(file["uri"], file["rows"]) for file in content["files"] if file["rows"]]
    if not files:
        raise CannotFit(f"{uri} lists no features: a PCA needs at least 2 images")
    current = Current(**content["current"]) if content.get("current") else None
    return Source(files, content["feature_model"], content["snapshot_id"], current)


def read_missing(current: Current, region: str) -> pa.Table:
    """Return the (image_key, etag) of the images without components of the current version.

    RowsDiffer if they are not as many as features.json says.
    """
    with open_parquet(current.missing, region) as file:
        found = file.read(columns=["image_key", "etag"])
    if found.num_rows != current.missing_rows:
        raise RowsDiffer(current.missing, current.missing_rows, found.num_rows)
    return found
