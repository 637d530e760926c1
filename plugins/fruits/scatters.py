"""A sample of a model version's components, in two dimensions: small enough to draw in a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from fruits.errors import MissingObjectError
from fruits.lake import LakeFile, data_files, equals, open_table
from fruits.objects import read_json, write_json

FILES_READ = 8
ROW_GROUPS_READ = 4  # of each file
POINTS = 1500
LABELS = 8
OTHERS = "other labels"


@dataclass(frozen=True)
class Scatter:
    """The first two components of some images: (x, y, index into *labels*) for each.

    The most frequent labels have their own index; the rest, if there are more, share the last.
    """

    model_version: str
    n_images: int
    labels: tuple[str, ...]
    points: tuple[tuple[float, float, int], ...]


def sample_components(catalog: Catalog, model_version: str) -> Scatter | None:
    """Return at most 1,500 points of *model_version*, of a few parts of a few of its files.

    None if it has no components. What is read does not grow with the number of images.
    """
    table = open_table("components", catalog)
    files = data_files(table, equals("model_version", model_version))
    parts = [part for file in _spread(files, FILES_READ) for part in _read(table, file)]
    if not parts:
        return None
    sample = pa.concat_tables(parts)
    sample = sample.take(_spread(range(sample.num_rows), POINTS))
    labels, indexes = _indexed(sample["label"].to_pylist())
    points = tuple(
        (round(float(x), 4), round(float(y), 4), index)
        for (x, y), index in zip(_first_two(sample["components"]), indexes, strict=True)
    )
    return Scatter(model_version, sum(file.rows for file in files), labels, points)


def write_scatter(folder: str, scatter: Scatter) -> None:
    """Write the sample into the model's *folder*, in place of an earlier one."""
    write_json(f"{folder}/scatter.json", asdict(scatter))


def read_scatter(folder: str) -> Scatter | None:
    """Return the sample that was written into the model's *folder*, if any was."""
    try:
        told = read_json(f"{folder}/scatter.json")
    except MissingObjectError:
        return None
    points = tuple((x, y, index) for x, y, index in told["points"])
    return Scatter(told["model_version"], told["n_images"], tuple(told["labels"]), points)


def _read(table: Table, file: LakeFile) -> Iterator[pa.Table]:
    with table.io.new_input(file.uri).open() as stream, pq.ParquetFile(stream) as parquet:
        groups = _spread(range(parquet.metadata.num_row_groups), ROW_GROUPS_READ)
        yield parquet.read_row_groups(groups, columns=["label", "components"])


def _spread(items: Any, most: int) -> list[Any]:
    """Return at most *most* of the items, evenly spread over them."""
    count = len(items)
    if count <= most:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, count - 1, most)]


def _first_two(components: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    vectors = np.array(components.to_pylist(), np.float64)
    if vectors.shape[1] == 1:
        vectors = np.hstack([vectors, np.zeros_like(vectors)])
    return vectors[:, :2]


def _indexed(labels: list[str]) -> tuple[tuple[str, ...], list[int]]:
    counted = Counter(labels)
    frequent = sorted(counted, key=lambda label: (-counted[label], label))
    names = sorted(frequent[: LABELS if len(frequent) <= LABELS else LABELS - 1])
    known = {name: index for index, name in enumerate(names)}
    if len(frequent) > len(names):
        names.append(OTHERS)
    return tuple(names), [known.get(label, len(names) - 1) for label in labels]
