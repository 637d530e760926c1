"""Small data files made into larger ones: a table that gets a file a day stays quick to scan.

A merge changes no row. It is one snapshot that swaps files, made from the files of one partition;
a file that another commit took meanwhile keeps its run of files from being merged, until next time.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from fruits.errors import CommitConflictError, UnreadableTableError
from fruits.lake import open_table, scan_files
from fruits.swaps import Mark, Swap, commit_once

log = logging.getLogger(__name__)

MANY = 16  # small files of one partition; fewer are left alone
SMALL = 32 * 1024 * 1024  # bytes
LARGEST = 64 * 1024 * 1024  # bytes of small files that become one: it is sorted in memory
ROW_GROUP = 16 * 1024 * 1024  # bytes in memory
REPEATED = ("label", "reason", "feature_model", "model_version", "batch")
SORTED_BY = [("label", "ascending"), ("image_key", "ascending")]


@dataclass(frozen=True)
class Merged:
    """Data files *old* and the *new* one that has their rows."""

    old: tuple[DataFile, ...]
    new: DataFile


def merge_small_files(catalog: Catalog, name: str, batch: str) -> int:
    """Merge the small files of each partition of the table *name* that has at least 16 of them.

    Returns how many files became fewer ones. New files lie in the folder of *batch*. When other
    writers win every attempt at the commit, the files are left for the next batch.
    """
    table = open_table(name, catalog)
    runs = list(small_runs(scan_files(table)))
    if not runs:
        return 0
    merged = [_merge(table, run, batch) for run in runs]
    old = sorted(file.file_path for one in merged for file in one.old)
    mark = Mark(batch, "merge", hashlib.sha256("\n".join(old).encode()).hexdigest())
    whole: list[Merged] = []

    def plan(table: Table) -> Swap:
        present = {file.file_path for file in scan_files(table)}
        whole[:] = [one for one in merged if all(file.file_path in present for file in one.old)]
        rows = sum(one.new.record_count for one in whole)
        return Swap(
            removed=tuple(file for one in whole for file in one.old),
            added=tuple(one.new for one in whole),
            rows_removed=rows,
            rows_added=rows,
        )

    try:
        commit_once(table, mark, plan)
    except CommitConflictError as error:
        log.warning("The small files of %s stay as they are until the next batch: %s", name, error)
        return 0
    fewer = sum(len(one.old) for one in whole)
    if fewer:
        log.info("%d small files of %s became %d", fewer, name, len(whole))
    return fewer


def small_runs(files: Iterable[DataFile]) -> Iterator[list[DataFile]]:
    """Yield runs of small files of one partition, at most 64 MB together, the oldest first.

    Nothing of a partition that has fewer than 16 small files.
    """
    partitions: dict[str, list[DataFile]] = {}
    for file in sorted(files, key=lambda file: file.file_path):  # by batch, that is, by age
        if file.file_size_in_bytes < SMALL:
            partitions.setdefault(str(file.partition), []).append(file)
    for small in partitions.values():
        if len(small) < MANY:
            continue
        run: list[DataFile] = []
        for file in small:
            if run and sum(one.file_size_in_bytes for one in [*run, file]) > LARGEST:
                yield from [run] if len(run) > 1 else []
                run = []
            run.append(file)
        yield from [run] if len(run) > 1 else []


def _merge(table: Table, run: list[DataFile], batch: str) -> Merged:
    uri = f"{table.location().rstrip('/')}/data/{batch}/merged-{uuid.uuid4()}.parquet"
    tables = [_read(table, file) for file in run]
    rows = pa.concat_tables([part.cast(tables[0].schema) for part in tables]).sort_by(SORTED_BY)
    lists = [field.name for field in rows.schema if pa.types.is_list(field.type)]
    with (
        table.io.new_output(uri).create() as output,
        pq.ParquetWriter(
            output,
            rows.schema,
            compression="zstd",
            write_statistics=[name for name in rows.column_names if name not in lists],
            use_dictionary=[name for name in REPEATED if name in rows.column_names],
        ) as writer,
    ):
        writer.write_table(rows, row_group_size=max(1, ROW_GROUP * rows.num_rows // rows.nbytes))
    return Merged(tuple(run), parquet_file_to_data_file(table.io, table.metadata, uri))


def _read(table: Table, file: DataFile) -> pa.Table:
    with table.io.new_input(file.file_path).open() as stream:
        rows = pq.ParquetFile(stream).read()
    if rows.num_rows != file.record_count:
        raise UnreadableTableError(
            f"{file.file_path} has {rows.num_rows} rows, and the table says {file.record_count}.",
            "Something else wrote this file. Look at the table's snapshots for the commit that"
            " brought it, and roll back to the one before.",
            table=table.name()[-1],
            uri=file.file_path,
        )
    return rows
