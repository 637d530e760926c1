"""The lake's tables as plain files, and the current version as one ONNX model, from a shell.

    python -m fruits.exports components --format csv --output components.csv

reads its settings from the environment (FRUITS_*), as `python -m fruits.batch` does. A file is
written whole or not at all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.catalog import Catalog
from pyiceberg.table import DataScan
from rich.markup import escape

from fruits.batches import Batch
from fruits.errors import FruitsError
from fruits.exporters import run_exporter
from fruits.gathering import grouped
from fruits.job_package import EXPORT_COMPONENTS
from fruits.lake import (
    PARTITION_COLUMN,
    VECTORS,
    current_version,
    ensure_tables,
    equals,
    open_catalog,
    open_table,
    read,
    versions,
)
from fruits.objects import exists
from fruits.scans import stream_rows
from fruits.settings import Settings, load_settings
from fruits.terminal import Terminal

TABLES = ("components", "features", "quarantine")
ROWS = 8192  # of a row group, and of the wide columns that are in memory at once


class ExportError(FruitsError):
    """What was asked for cannot be exported."""


def export_table(
    catalog: Catalog, name: str, target: Path, *, wide: bool = False, version: str | None = None
) -> int:
    """Write the table *name* to *target*, Parquet or CSV by its suffix; return the rows.

    It is the current feature model or model version, or the *version* of components. *wide* gives
    every number of a vector a column: components_0, components_1, …; CSV always has them. Rows come
    in no particular order. ExportError if there is nothing to write.
    """
    wide = wide or target.suffix == ".csv"
    batches = (rows for rows in stream_rows(_scan(catalog, name, version)) if len(rows))
    tables = grouped(batches, ROWS)
    if wide and name in VECTORS:
        tables = (widened(table, name) for table in tables)
    first = next(tables, None)
    if first is None:
        raise ExportError(
            f"There are no {name} yet.", "Ingest some images first: `make batch` or the DAG."
        )
    with whole_file(target) as partial, _writer(partial, target.suffix, first.schema) as writer:
        writer.write_table(first)
        rows: int = first.num_rows
        for table in tables:
            writer.write_table(table.cast(first.schema))
            rows += table.num_rows
    return rows


def widened(table: pa.Table, name: str) -> pa.Table:
    """Return *table* with a float32 column for each number of its lists *name*, after the others.

    ExportError if the lists differ in length.
    """
    index = table.schema.get_field_index(name)
    lists = table[name].combine_chunks()
    lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
    if len(lengths) != 1:
        raise ExportError(f"The vectors of {name} have different lengths: {sorted(lengths)}.")
    matrix = pc.list_flatten(lists).to_numpy(zero_copy_only=False).reshape(len(lists), lengths[0])
    columns = {f"{name}_{i}": matrix[:, i].copy() for i in range(lengths[0])}
    others = table.remove_column(index)
    return pa.table({**{n: others[n] for n in others.column_names}, **columns})


def export_onnx(settings: Settings, catalog: Catalog, target: Path, version: str | None) -> str:
    """Write one ONNX model, uint8[N, 224, 224, 3] -> components float32[N, k]; return its version.

    ExportError if the version, its model or its network is not there.
    """
    version, feature_model = _version(catalog, version)
    batch = Batch(settings.lake, "")
    network = f"{settings.lake}/networks/{feature_model}.onnx"
    model = f"{batch.models}/{version}"
    for uri in (network, f"{model}/model.json"):
        if not exists(uri, settings.region):
            raise ExportError(f"There is no object {uri}.", "The next batch writes it again.")
    arguments = ["--network", network, "--model", f"{model}/", "--region", settings.region]
    with whole_file(target) as partial:
        arguments += ["--output", str(partial)]
        run_exporter(EXPORT_COMPONENTS, *arguments, failure=ExportError)
    return version


def _scan(catalog: Catalog, name: str, version: str | None) -> DataScan:
    if version is None:
        return read(name, catalog)
    if name != "components":
        raise ExportError(f"--model-version chooses components, and {name} have none.")
    known, _ = _version(catalog, version)
    return open_table(name, catalog).scan(equals(PARTITION_COLUMN[name], known))


def _version(catalog: Catalog, version: str | None) -> tuple[str, str]:
    """Return (model_version, feature_model) of *version*, or of the current one."""
    components = open_table("components", catalog)
    known = {entry[0]: entry[1] for entry in versions(components)}
    wanted = version or current_version(catalog)
    if wanted is None:
        raise ExportError("There is no PCA version yet.", "Ingest some images first: `make batch`.")
    if wanted not in known:
        raise ExportError(f"There is no version {wanted}.", f"There are {', '.join(known)}.")
    return wanted, known[wanted]


def _writer(path: Path, suffix: str, schema: pa.Schema) -> Any:
    if suffix == ".csv":
        return pyarrow.csv.CSVWriter(path, schema)
    return pq.ParquetWriter(path, schema, compression="zstd")


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path beside *target* that becomes it, unless the work on it fails."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error.strerror}.", "Name a file elsewhere with --output."
        ) from error
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fruits.exports", description=__doc__)
    parser.add_argument(
        "what",
        choices=[*TABLES, "onnx"],
        help="a table, as it is read by default; or onnx: one model from pixels to components",
    )
    parser.add_argument("--format", choices=["parquet", "csv"], default="parquet")
    parser.add_argument(
        "--wide", action="store_true", help="a column per number (components_0, …); CSV has them"
    )
    parser.add_argument("--model-version", help="of components and onnx (the current one)")
    parser.add_argument("--output", type=Path, help="the file (var/export/WHAT.FORMAT)")
    return parser


def main(words: list[str] | None = None) -> int:
    """Export one thing; 0 if the file is there."""
    options, terminal = _parser().parse_args(words), Terminal()
    suffix = "onnx" if options.what == "onnx" else options.format
    target = options.output or Path("var/export") / f"{options.what}.{suffix}"
    version = options.model_version
    try:
        if target.suffix != f".{suffix}":
            raise ExportError(f"{target} is to be {suffix}.", f"Let its name end in .{suffix}.")
        settings, catalog = load_settings(), open_catalog()
        ensure_tables(catalog)
        if options.what == "onnx":
            done = f"version {export_onnx(settings, catalog, target, version)}"
        else:
            rows = export_table(catalog, options.what, target, wide=options.wide, version=version)
            done = f"{rows:,} rows"
    except (FruitsError, BotoCoreError, ClientError) as error:
        terminal.say(f"[bold red]{type(error).__name__}[/bold red] {escape(str(error))}")
        return 1
    terminal.say(f"{target}: {done}, {target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
