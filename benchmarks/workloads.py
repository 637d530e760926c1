"""Images in the local S3 with their manifests: the same for every contender of a run."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.jobs import LAKE
from fruits_jobs.schemas import MANIFEST

LISTED = datetime(2026, 11, 21, 3, tzinfo=UTC)


@dataclass(frozen=True)
class Workload:
    """*images* objects under s3://fruits-images/*name*/, and their manifest in the lake."""

    name: str
    images: int

    @property
    def prefix(self) -> str:
        """The URI under which the images are."""
        return f"s3://fruits-images/{self.name}/"

    @property
    def manifest(self) -> str:
        """The URI of the manifest's list."""
        return f"{LAKE}/manifests/{self.name}/added.parquet"


def put(buckets: Path, name: str, files: Iterable[tuple[str, bytes]]) -> Workload:
    """Write (key below the prefix, content) *files* as objects, and a manifest of them."""
    rows = []
    for key, data in files:
        path = buckets / "fruits-images" / name / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append(_row(f"{name}/{key}", data))
    rows.sort(key=lambda row: (row["label"], row["image_key"]))
    manifest = buckets / "fruits-lake" / "manifests" / name / "added.parquet"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=MANIFEST)
    pq.write_table(table, manifest, row_group_size=4096)
    return Workload(name, len(rows))


def _row(key: str, data: bytes) -> dict[str, object]:
    return {
        "image_key": key,
        "image_uri": f"s3://fruits-images/{key}",
        "label": key.rsplit("/", 2)[-2],
        "etag": hashlib.md5(data).hexdigest(),
        "size_bytes": len(data),
        "last_modified": LISTED,
    }


def photographs(folder: Path) -> list[Path]:
    """Return the JPEGs in *folder* and its sub-folders, sorted."""
    found = sorted(folder.rglob("*.jpg"))
    if not found:
        raise FileNotFoundError(f"{folder} has no .jpg files: give a folder of label folders")
    return found


def copies(folder: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield *count* objects out of the JPEGs in *folder*, around and around, each its own key."""
    paths = photographs(folder)
    for number, path in enumerate(islice(cycle(paths), count)):
        turn = number // len(paths)
        yield f"{turn}/{path.parent.name}/{path.name}", path.read_bytes()


def enlarged(folder: Path, count: int, width: int, height: int) -> Iterator[tuple[str, bytes]]:
    """Yield *count* photographs of width x height, made of the JPEGs in *folder*.

    Upscaled with noise of a camera's size on top, so that they are as long to decode as their
    pixels say. The same call yields the same bytes.
    """
    random = np.random.default_rng(0)
    noise = random.normal(0, 4, (height, width, 1)).astype(np.float32)
    for number, path in enumerate(islice(cycle(photographs(folder)), count)):
        with Image.open(path) as image:
            large = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(large, np.float32) + np.roll(noise, 97 * number, axis=0)
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        yield f"large/{number:04d}.jpg", buffer.getvalue()


def bomb(megapixels: int) -> bytes:
    """Return a PNG of that many megapixels of one colour: a few hundred kilobytes."""
    side = round((megapixels * 1e6) ** 0.5)
    buffer = io.BytesIO()
    Image.new("L", (side, side), 127).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def put_network(buckets: Path, weights: Path, network: Path) -> tuple[str, str]:
    """Copy weights and network into the lake and return their URIs."""
    folder = buckets / "fruits-lake" / "networks"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (weights, network):
        shutil.copyfile(path, folder / path.name)
    os.sync()  # now, and not while the contender is timed
    return f"{LAKE}/networks/{weights.name}", f"{LAKE}/networks/{network.name}"
