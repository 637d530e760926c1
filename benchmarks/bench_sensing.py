"""How long sensing takes beyond the listing, and its memory: N listed keys against N in the tables.

    make bench-sensing KEYS="1000000 10000000"

The tables are real Iceberg tables of narrow rows (vectors of one float) in a local S3. The listing
is made up as it goes: each page is what S3 would have answered, and the time to make it is measured
apart and taken off. Every tenth image is replaced, new, or gone. Each size is a process of its own,
so that peaks of memory are its.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import parquet_files_to_data_files

from benchmarks.environments import machine, storage
from benchmarks.measuring import peak_mb
from fruits import discovery
from fruits.lake import SCHEMAS, ensure_tables, open_catalog, open_table
from fruits.listing import OBJECTS, Sink

MODEL = "benchmark"
PAGE, FILE_ROWS = 10_000, 250_000
LAKE = "s3://fruits-lake"
# Row groups as the featurize step writes them: 16 MB of 1,280 floats.
ROW_GROUP = 3_200
MANY, SECONDS, PEAK_MB = 10_000_000, 60, 2_000  # so many keys are to take less than that


def main() -> None:
    """Measure every size in a process of its own; print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("var/bench/sensing.json"))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(arguments.measure)))
        return
    content: dict[str, Any] = {"machine": machine(), "figures": []}
    for keys in arguments.keys:
        with tempfile.TemporaryDirectory(prefix="fruits-bench-") as name, storage(Path(name)) as s3:
            write_tables(s3.folder, keys)
            print(f"{keys:,} keys: the tables are written", file=sys.stderr, flush=True)
            for _ in range(arguments.repeat):
                content["figures"].append(figure(keys))
                write(arguments.output, content)
    print("| keys | seconds beyond listing | CPU s | peak MB |\n|---:|---:|---:|---:|")
    for one in content["figures"]:
        cells = f"{one['seconds']:.1f} | {one['cpu']:.1f} | {one['peak_mb']:.0f}"
        print(f"| {one['keys']:,} | {cells} |")
    print(f"\n{verdict(content['figures'])}")


def write(output: Path, content: dict[str, Any]) -> None:
    """Write what was measured so far: an interrupted run loses none."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n")


def verdict(figures: list[dict[str, Any]]) -> str:
    """Say whether the most keys stay within the limits, in the worst of their measurements.

    The limits are meant for MANY keys: of fewer, only what they took is said.
    """
    most = max(one["keys"] for one in figures)
    worst = {
        name: max(one[name] for one in figures if one["keys"] == most)
        for name in ("seconds", "peak_mb")
    }
    took = f"{most:,} keys: {worst['seconds']:.1f} s, {worst['peak_mb']:.0f} MB"
    if most < MANY:
        return took
    met = worst["seconds"] < SECONDS and worst["peak_mb"] < PEAK_MB
    wanted = f"wanted less than {SECONDS} s and {PEAK_MB} MB"
    return f"{took}; {wanted}: {'met' if met else 'missed'}"


def figure(keys: int) -> dict[str, Any]:
    """Return one measurement, made in a new process."""
    command = [sys.executable, "-m", "benchmarks.bench_sensing", "--measure", str(keys)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    told = f"{content['seconds']:.1f} s, {content['peak_mb']:.0f} MB"
    print(f"{keys:,} keys: {told}", file=sys.stderr, flush=True)
    return content


def measured(keys: int) -> dict[str, Any]:
    """Sense *keys* made-up objects against the tables."""
    started = time.perf_counter()
    for _ in listing(keys):
        pass
    making = time.perf_counter() - started

    def made_up(_bucket: str, prefix: str, sink: Sink) -> None:
        for page in listing(keys):
            sink.add(prefix, page)

    discovery.list_objects = made_up  # type: ignore[attr-defined, assignment]
    started, cpu = time.perf_counter(), time.process_time()
    found = discovery.sense(
        open_catalog(),
        images_uri="s3://fruits-images/bench/",
        manifest_uri=f"{LAKE}/manifests/{keys}-{os.getpid()}",
        batch="benchmark",
        feature_model=MODEL,
    )
    tenth = keys // 10
    assert (found.counts.replaced, found.counts.deleted) == (tenth, tenth), found.counts
    return {
        "keys": keys,
        "seconds": time.perf_counter() - started - making,
        "cpu": time.process_time() - cpu - making,
        "peak_mb": peak_mb(psutil.Process()),
        "counts": vars(found.counts),
    }


def listing(keys: int) -> Iterator[pa.RecordBatch]:
    """Yield pages of the bucket: the first tenth is gone, as many are new, a tenth is replaced."""
    for numbers in _pages(keys // 10, keys + keys // 10, PAGE):
        replaced = (numbers % 9 == 0) & (numbers < keys)
        yield pa.record_batch(
            [_keys(numbers), _etags(numbers, replaced), pa.array(numbers), _times(numbers)],
            schema=OBJECTS,
        )


def write_tables(buckets: Path, keys: int) -> None:
    """Make the lake's tables, whose features describe keys 0 to *keys*."""
    catalog = open_catalog()
    ensure_tables(catalog)
    folder = buckets / "fruits-lake" / "tables" / "features" / "data" / str(keys)
    folder.mkdir(parents=True, exist_ok=True)
    uris = []
    for number, numbers in enumerate(_pages(0, keys, FILE_ROWS)):
        path = folder / f"{number:05d}.parquet"
        pq.write_table(_rows(numbers), path, row_group_size=ROW_GROUP, compression="zstd")
        uris.append(f"{LAKE}/tables/features/data/{keys}/{path.name}")
    time.sleep(0.5)  # until the S3 shows files that were written beside it
    table = open_table("features", catalog)
    files = parquet_files_to_data_files(table.io, table.metadata, iter(uris))
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in files:
            append.append_data_file(file)


def _rows(numbers: np.ndarray) -> pa.Table:
    count, names = len(numbers), _keys(numbers)
    constants = {
        "label": "bench",
        "width": 100,
        "height": 100,
        "feature_model": MODEL,
        "batch": "b",
    }
    columns = {
        "image_key": names,
        "image_uri": pc.binary_join_element_wise("s3://fruits-images/", names, ""),
        "etag": _etags(numbers, np.zeros(count, bool)),
        "size_bytes": pa.array(numbers),
        "last_modified": _times(numbers),
        "features": pa.array([[0.0]] * count, pa.list_(pa.float32())),
        **{name: pa.repeat(value, count) for name, value in constants.items()},
    }
    schema = SCHEMAS["features"].as_arrow()
    chosen = [pa.array(columns[name]).cast(schema.field(name).type) for name in schema.names]
    bare = pa.schema([pa.field(field.name, field.type) for field in schema])
    return pa.table(chosen, schema=bare)


def _pages(start: int, stop: int, size: int) -> Iterator[np.ndarray]:
    for first in range(start, stop, size):
        yield np.arange(first, min(first + size, stop))


def _keys(numbers: np.ndarray) -> pa.Array:
    # As long as real ones: a label of some length and a camera's file name.
    return pc.binary_join_element_wise(
        "bench/Apple Red Delicious 1/", _padded(numbers, 9), ".jpg", ""
    )


def _etags(numbers: np.ndarray, replaced: np.ndarray) -> pa.Array:
    return _padded(numbers * 7919 + replaced, 32)


def _times(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.timestamp("us", tz="UTC"))


def _padded(numbers: np.ndarray, width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


if __name__ == "__main__":
    main()
