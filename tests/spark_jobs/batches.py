"""A batch in the local S3, and images to put into it: shared by the jobs' tests."""

from __future__ import annotations

import hashlib
import io
import shutil
from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fruits_jobs.arguments import featurize_parser
from fruits_jobs.schemas import MANIFEST

LAKE = "s3://fruits-lake"


def photo(seed: int, size: tuple[int, int] = (100, 100), **save: Any) -> bytes:
    """Return an image file (JPEG unless *save* says otherwise) of blobs of colour."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return encoded(coarse.resize(size, Image.Resampling.BICUBIC), **save)


def encoded(image: Image.Image, **save: Any) -> bytes:
    """Return *image* as the bytes of a file, a JPEG unless *save* has another format."""
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "JPEG", "quality": 92, **save})
    return buffer.getvalue()


@dataclass(frozen=True)
class Batch:
    """Images in s3://fruits-images and their manifest in the lake, under *folder*."""

    folder: Path
    network: Namespace

    @classmethod
    def make(cls, folder: Path, network: Namespace, images: dict[str, bytes]) -> Batch:
        """Write images and manifest, and the network's files."""
        rows = []
        for key, data in images.items():
            path = folder / "fruits-images" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            rows.append(manifest_row(key, data))
        lake = folder / "fruits-lake"
        for name in ("manifests", "weights", "networks"):
            (lake / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(network.weights, lake / "weights")
        shutil.copy(network.network, lake / "networks")
        rows.sort(key=lambda row: (row["label"], row["image_key"]))
        table = pa.Table.from_pylist(rows, schema=MANIFEST)
        pq.write_table(table, lake / "manifests" / "added.parquet", row_group_size=16)
        return cls(folder, network)

    def words(self, attempt: str = "1", engine: str = "litert") -> list[str]:
        """Return the featurize step's command line for this batch."""
        options = {
            "manifest": f"{LAKE}/manifests/added.parquet",
            "features": f"{LAKE}/tables/features/data/b/{attempt}/",
            "quarantine": f"{LAKE}/tables/quarantine/data/b/{attempt}/",
            "work": f"{LAKE}/attempts/b/featurize-{attempt}/",
            "weights": f"{LAKE}/weights/{self.network.weights.name}",
            "network": f"{LAKE}/networks/{self.network.network.name}",
            "engine": engine,
            "feature-model": self.network.feature_model,
            "batch": "b",
            "region": "eu-west-3",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def arguments(self, **options: str) -> Namespace:
        """Return the parsed arguments of :meth:`words`."""
        return featurize_parser().parse_args(self.words(**options))

    def table(self, listing: dict[str, Any]) -> pa.Table:
        """Return the rows of the files that a result lists, read from the folder behind S3."""
        files = [self.folder / file["uri"].removeprefix("s3://") for file in listing["files"]]
        return pa.concat_tables([pq.ParquetFile(file).read() for file in files])


def manifest_row(key: str, data: bytes) -> dict[str, Any]:
    """Return the manifest's row of that image."""
    return {
        "image_key": key,
        "image_uri": f"s3://fruits-images/{key}",
        "label": key.rsplit("/", 2)[-2] if "/" in key else "",
        "etag": hashlib.md5(data).hexdigest(),
        "size_bytes": len(data),
        "last_modified": datetime(2026, 11, 21, 3, tzinfo=UTC),
    }
