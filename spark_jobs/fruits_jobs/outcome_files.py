"""What a Spark worker does with sorted outcomes: one file each of features, quarantine, changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fruits_jobs.schemas import CHANGED, FEATURES, QUARANTINE, WRITTEN, float_lists
from fruits_jobs.table_files import TableFile

SCHEMAS = {"features": FEATURES, "quarantine": QUARANTINE, "changed": CHANGED}


@dataclass(frozen=True)
class Destination:
    """Where files go: *folders* by kind of outcome, and the values that all their rows share."""

    folders: dict[str, str]
    feature_model: str
    batch: str
    region: str
    length: int

    def uri(self, kind: str, file: int, attempt: int) -> str:
        """Return the URI of a file; *attempt* is Spark's, so that a retried task has new names."""
        prefix = "changed" if kind == "changed" else "part"
        return f"{self.folders[kind]}{prefix}-{file:05d}-{attempt}.parquet"


def write_outcomes(
    destination: Destination, attempt: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Write all OUTCOMES of one file index and yield one WRITTEN row per finished file."""
    files: dict[str, TableFile] = {}
    reasons: dict[str, Counter[str]] = {kind: Counter() for kind in SCHEMAS}
    for batch in batches:
        for kind, rows in _by_kind(pa.Table.from_batches([batch]), destination):
            if kind not in files:
                uri = destination.uri(kind, batch["file"][0].as_py(), attempt)
                files[kind] = TableFile(uri, SCHEMAS[kind], destination.region)
            files[kind].write(rows)
            reasons[kind].update(r for r in rows["reason"].to_pylist() if r)
    written = [(kind, file.finish()) for kind, file in files.items()]
    yield pa.RecordBatch.from_pylist(
        [
            {"kind": kind, **vars(file), "reasons": json.dumps(reasons[kind])}
            for kind, file in written
        ],
        schema=WRITTEN,
    )


def _by_kind(outcomes: pa.Table, destination: Destination) -> Iterator[tuple[str, pa.Table]]:
    for kind in SCHEMAS:
        rows = outcomes.filter(pc.field("outcome") == kind)
        if rows.num_rows:
            if kind == "features":
                rows = _with_lists(rows, destination.length)
            yield kind, _with_constants(rows, destination)


def _with_lists(rows: pa.Table, length: int) -> pa.Table:
    """Return *rows* with their features, which come as bytes, as lists of *length* floats."""
    column = rows["features"].combine_chunks()
    sizes = pc.unique(pc.binary_length(column)).to_pylist()
    if sizes != [4 * length]:
        raise ValueError(f"rows have features of {sizes} bytes instead of {length} float32")
    _, offsets, data = column.buffers()
    start = np.frombuffer(offsets, np.int32)[column.offset]
    floats = np.frombuffer(data[start : start + 4 * length * len(column)], np.float32)
    place = rows.schema.get_field_index("features")
    return rows.set_column(place, "features", float_lists(floats.reshape(-1, length)))


def _with_constants(rows: pa.Table, destination: Destination) -> pa.Table:
    for name in ("feature_model", "batch"):
        values = pa.repeat(getattr(destination, name), rows.num_rows)
        rows = rows.append_column(name, values)
    return rows
