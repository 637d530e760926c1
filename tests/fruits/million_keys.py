"""Compare a million listed keys with a million known ones, and print what that cost in memory.

A program of its own: the peak of a process that runs other tests would say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measuring import peak_mb
from fruits.discovery import Comparison
from fruits.listing import OBJECTS
from fruits.manifests import ADDED, REMOVED, Counts, write_list
from fruits.scratch import scratch

PAGE = 10_000
Version = Callable[[np.ndarray], np.ndarray]


def pages(start: int, stop: int, version: Version) -> Iterator[pa.RecordBatch]:
    """Yield objects label/<number>.jpg whose etags (32 characters) hold *version* of it."""
    for first in range(start, stop, PAGE):
        numbers = np.arange(first, first + PAGE)
        columns = [
            pc.binary_join_element_wise("label/", padded(numbers, 9), ".jpg", ""),
            padded(version(numbers), 32),
            pa.array(numbers),
            pa.array(numbers).cast(pa.timestamp("us", tz="UTC")),
        ]
        yield pa.record_batch(columns, schema=OBJECTS)


def padded(numbers: np.ndarray, width: int) -> pa.Array:
    """Return numbers as text."""
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


def compare(size: int) -> Counts:
    """Compare *size* listed versions with as many known ones."""
    with scratch("256MB") as space:
        comparison = Comparison(space, "a-feature-model")
        # Every tenth image has another version than the tables know.
        for page in pages(0, size, lambda numbers: numbers + size * (numbers % 10 == 0)):
            comparison.add("label/", page)
        comparison.add_known(
            pages(size // 10, size + size // 10, lambda numbers: numbers), processed=True
        )
        comparison.compare("bucket", None)
        write_list(space.folder / "added.parquet", ADDED, comparison.added())
        write_list(space.folder / "removed.parquet", REMOVED, comparison.removed())
        return comparison.counts()


if __name__ == "__main__":
    compare(PAGE * 10)  # what the libraries take once is not the data's
    before = peak_mb(psutil.Process())
    counts = compare(1_000_000)
    grown = peak_mb(psutil.Process()) - before
    print(json.dumps({"grown_mb": grown, "counts": asdict(counts)}))  # noqa: T201
