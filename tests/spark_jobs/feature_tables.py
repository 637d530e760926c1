"""A features table as a PCA step sees it, to which batches happen: shared by the PCA tests.

Rows are added in new files, and files that lose rows are written again under a new name, as the
commits do. Objects go through S3: what is written beside rclone shows up a moment later.
"""

from __future__ import annotations

import io
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fruits_jobs.arguments import pca_parser
from fruits_jobs.data_files import DataFile, identified
from fruits_jobs.objects import open_parquet, write_bytes, write_json
from fruits_jobs.schemas import FEATURES, float_lists
from tests.spark_jobs.batches import manifest_row

LAKE = "s3://fruits-lake"
REGION = "eu-west-3"
Image = tuple[str, str]  # image_key, etag


def feature_rows(images: list[Image], X: np.ndarray) -> pa.Table:
    """Return feature rows of those vectors, float32[N, D]."""
    rows = [manifest_row(key, b"x") | {"etag": etag} for key, etag in images]
    more = {"width": 100, "height": 100, "feature_model": "m", "batch": "b"}
    table = pa.Table.from_pylist([row | more for row in rows])
    features = float_lists(np.ascontiguousarray(X))
    return table.append_column("features", features).select(FEATURES.names).cast(FEATURES)


@dataclass
class FeatureTable:
    """The committed *files* (URI -> images and vectors) of the folder *name*, and components."""

    name: str
    files: dict[str, tuple[list[Image], np.ndarray]] = field(default_factory=dict)
    components: dict[Image, np.ndarray] = field(default_factory=dict)
    version: str = ""
    count: int = 0

    @property
    def images(self) -> list[Image]:
        """All images, file by file."""
        return [image for images, _ in self.files.values() for image in images]

    @property
    def vectors(self) -> np.ndarray:
        """All vectors in that order, float64[N, D]."""
        return np.concatenate([X for _, X in self.files.values()]).astype(np.float64)

    def add(self, X: np.ndarray, keys: list[str] | None = None) -> None:
        """Commit a file of new images with the vectors float32[N, D]."""
        self.count += 1
        keys = keys or [f"run/{i % 3}/{self.count:03d}-{i:05d}.jpg" for i in range(len(X))]
        self._write([(key, f"etag {self.count}") for key in keys], X)

    def remove(self, keep: np.ndarray) -> None:
        """Commit the removal of the images where *keep*, bool[N], is false."""
        start = 0
        for uri, (images, X) in list(self.files.items()):
            kept = keep[start : start + len(images)]
            start += len(images)
            if not kept.all():
                del self.files[uri]
                left = [image for image, stays in zip(images, kept, strict=True) if stays]
                if left:
                    self.count += 1
                    self._write(left, X[kept])

    def replace(self, chosen: np.ndarray, X: np.ndarray) -> None:
        """Commit new vectors *X* for the images where *chosen*, bool[N], is true."""
        images = [image for image, yes in zip(self.images, chosen, strict=True) if yes]
        self.remove(~chosen)
        self.add(X, [key for key, _ in images])

    def listed(self) -> list[tuple[str, int]]:
        """Return what features.json lists: (uri, rows)."""
        return [(uri, len(images)) for uri, (images, _) in self.files.items()]

    def data_files(self) -> list[DataFile]:
        """Return the files as S3 has them."""
        return identified(self.listed(), REGION)

    def arguments(self, attempt: str, *more: str) -> Namespace:
        """Write features.json for an attempt and return the step's arguments."""
        work = f"{LAKE}/{self.name}/attempts/{attempt}/"
        current = None
        if self.version:
            missing = [image for image in self.images if image not in self.components]
            current = {
                "model_version": self.version,
                "model": f"{LAKE}/{self.name}/models/{self.version}/",
                "missing": f"{work}missing.parquet",
                "missing_rows": len(missing),
                "components_snapshot_id": 9,
            }
            table = pa.table(
                {"image_key": [k for k, _ in missing], "etag": [e for _, e in missing]},
                schema=pa.schema([("image_key", pa.string()), ("etag", pa.string())]),
            )
            write_bytes(current["missing"], parquet_bytes(table), REGION)
        files = [{"uri": uri, "rows": rows, "bytes": 1} for uri, rows in self.listed()]
        content = {"snapshot_id": 7, "feature_model": "m", "files": files, "current": current}
        write_json(f"{work}features.json", content, REGION)
        words = {
            "features": f"{work}features.json",
            "components": f"{LAKE}/{self.name}/components/{attempt}/",
            "model": f"{LAKE}/{self.name}/models/{attempt}/",
            "model-version": attempt,
            "work": work,
            "statistics": f"{LAKE}/{self.name}/statistics/",
            "batch": "b",
            "region": REGION,
        }
        line = [word for name, value in words.items() for word in (f"--{name}", value)]
        return pca_parser().parse_args([*line, *more])

    def take(self, result: dict[str, Any]) -> None:
        """Commit what a step did: components of a new version, or more of the current one."""
        if result["fitted"]:
            self.components, self.version = {}, result["model_version"]
        assert result["model_version"] == self.version
        for file in result["components"]["files"]:
            with open_parquet(file["uri"], REGION) as parquet:
                for row in parquet.read().to_pylist():
                    assert row["model_version"] == self.version
                    image = row["image_key"], row["etag"]
                    assert image not in self.components, "projected twice"
                    self.components[image] = np.array(row["components"])
        there = set(self.images)
        self.components = {i: c for i, c in self.components.items() if i in there}

    def projected(self) -> np.ndarray:
        """Return the components in the order of the vectors, [N, k]."""
        return np.array([self.components[image] for image in self.images])

    def _write(self, images: list[Image], X: np.ndarray) -> None:
        uri = f"{LAKE}/{self.name}/features/{self.count:05d}.parquet"
        write_bytes(uri, parquet_bytes(feature_rows(images, X)), REGION)
        self.files[uri] = (images, X)


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a Parquet file with row groups of 16 rows."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=16)
    return buffer.getvalue()
