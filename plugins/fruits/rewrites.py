"""Data files without some of their rows: how image versions leave a table, copy on write.

PyIceberg's own `delete` reads every file in full once there are more than 200 keys, and cannot
share a snapshot with added files. Here a file is opened only if its image_key bounds allow a hit,
only its key columns are read to be sure, and only files with a hit are written again.

A rewritten file lies in the batch's folder as `rewritten-<uuid>.parquet`, so a later clean-up tells
it from what steps wrote; one that no snapshot names is left over from a commit that was not made.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import StringType

from fruits.errors import StaleManifestError
from fruits.lake import LakeFile, scan_files
from fruits.scratch import Scratch

SAME = "USING (image_key, etag)"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rewritten:
    """A data file that loses *rows* rows, and its copy without them (None: no row is left)."""

    old: DataFile
    new: DataFile | None
    rows: int


@dataclass
class Rewriter:
    """Takes the versions of `doomed` (image_key, etag) out of a table's files.

    `claimed` (image_key) names the keys that the commit brings new rows for. A row of a claimed key
    that is not doomed would stay beside the new one, so it raises StaleManifestError; with
    *partition*, rows of other partitions are nobody's rivals, and *confined* to it, they stay even
    if they are doomed. Both tables are in *space*.

    *prepared* are copies that a step has made already, by the file that each is to replace (None:
    no row is left). One that holds exactly the rows that are to stay is taken; else a new one is
    made.

    What was rewritten is remembered: when a commit is tried again upon another snapshot, a file
    that is still there is not written twice.
    """

    space: Scratch
    batch: str
    partition: str | None = None
    prepared: Mapping[str, LakeFile | None] = field(default_factory=dict)
    confined: bool = False
    _known: dict[str, Rewritten | None] = field(default_factory=dict)

    def plan(self, table: Table) -> list[Rewritten]:
        """Return the rewrites of *table* as it is now, having written the new files."""
        files = list(scan_files(table))
        fresh = [file for file in files if file.file_path not in self._known]
        # All files are looked at before the first is written: a refused plan leaves nothing behind.
        doomed = self.doomed_rows(table, fresh)
        self._refuse_rivals(table.name()[-1])
        self._known |= {file.file_path: None for file in fresh}
        for file, rows in doomed:
            positions = rows["position"].to_numpy()
            self._known[file.file_path] = self._rewrite(table, file, positions)
        known = (self._known[file.file_path] for file in files)
        return [rewritten for rewritten in known if rewritten]

    def doomed_rows(
        self, table: Table, files: list[DataFile] | None = None
    ) -> list[tuple[DataFile, pa.Table]]:
        """Return each of the *files* (all, if None) that holds doomed rows, and which.

        The rows as position (int64, in the file's order) and image_key.
        """
        self.space.run("CREATE OR REPLACE TABLE rivals (image_key VARCHAR)")
        wanted = list(scan_files(table)) if files is None else files
        found = [(file, self._look_into(table, file)) for file in wanted]
        return [(file, rows) for file, rows in found if rows is not None and rows.num_rows]

    def _look_into(self, table: Table, file: DataFile) -> pa.Table | None:
        """Return the doomed rows of *file*, None where there can be none; note its rivals."""
        elsewhere = self.partition is not None and file.partition[0] != self.partition
        if (self.confined and elsewhere) or not self._may_hold(table, file):
            return None
        self.space.database.register("keys", _read_keys(table.io, file.file_path))
        try:
            if not elsewhere:
                self.space.run(
                    "INSERT INTO rivals SELECT image_key FROM (FROM keys SEMI JOIN claimed"
                    f" USING (image_key)) ANTI JOIN doomed {SAME}"
                )
            doomed = f"SELECT position, image_key FROM keys SEMI JOIN doomed {SAME}"
            rows: pa.Table = self.space.database.sql(doomed).to_arrow_table()
            return rows
        finally:
            self.space.database.unregister("keys")

    def _rewrite(self, table: Table, file: DataFile, rows: np.ndarray) -> Rewritten:
        keep = np.ones(file.record_count, dtype=bool)
        keep[rows] = False
        new = self._made(table, file, keep) if keep.any() else None
        log.info("%s loses %d of %d rows", file.file_path, len(rows), len(keep))
        return Rewritten(file, new, len(rows))

    def _made(self, table: Table, file: DataFile, keep: np.ndarray) -> DataFile:
        made = self.prepared.get(file.file_path)
        if made and self._holds(table, made, file, keep):
            return parquet_file_to_data_file(table.io, table.metadata, made.uri)
        if file.file_path in self.prepared:
            log.warning("What the step made of %s does not fit: it is made again", file.file_path)
        return self._write_kept(table, file, keep)

    def _holds(self, table: Table, made: LakeFile, file: DataFile, keep: np.ndarray) -> bool:
        """Say whether *made* has exactly the kept rows of *file*, in their order, by their keys."""
        columns = ["image_key", "etag"]
        kept = _read_keys(table.io, file.file_path).select(columns).filter(pa.array(keep))
        return bool(_read_keys(table.io, made.uri).select(columns).equals(kept))

    def _may_hold(self, table: Table, file: DataFile) -> bool:
        field_id = table.schema().find_field("image_key").field_id
        lower, upper = (
            bounds.get(field_id) for bounds in (file.lower_bounds or {}, file.upper_bounds or {})
        )
        if lower is None or upper is None:
            return True
        bounds = [from_bytes(StringType(), bound) for bound in (lower, upper)]
        touched = "(SELECT image_key FROM doomed UNION ALL SELECT image_key FROM claimed)"
        query = f"SELECT EXISTS (FROM {touched} WHERE image_key BETWEEN ? AND ?)"
        return bool(self.space.value(query, *bounds))

    def _refuse_rivals(self, name: str) -> None:
        count, examples = self.space.examples("rivals")
        if count:
            raise StaleManifestError(
                f"{name} already holds rows of {count} images that this batch brings"
                f" ({', '.join(map(repr, examples))}), and its manifest does not know them:"
                " another batch committed them meanwhile.",
                "Clear sense_changes, so that this run compares with the table as it is now.",
                table=name,
                count=count,
                examples=examples,
            )

    def _write_kept(self, table: Table, file: DataFile, keep: np.ndarray) -> DataFile:
        location = table.location().rstrip("/")
        uri = f"{location}/data/{self.batch}/rewritten-{uuid.uuid4()}.parquet"
        _copy_rows(table.io, file.file_path, uri, keep)
        return parquet_file_to_data_file(table.io, table.metadata, uri)


def _read_keys(io: FileIO, uri: str) -> pa.Table:
    with io.new_input(uri).open() as stream:
        keys = pq.read_table(stream, columns=["image_key", "etag"])
    return keys.append_column("position", pa.array(np.arange(keys.num_rows)))


def _copy_rows(io: FileIO, source: str, target: str, keep: np.ndarray) -> None:
    """Copy the rows where *keep*, a row group at a time; every value stays as it is, bit by bit."""
    with (
        io.new_input(source).open() as stream,
        pq.ParquetFile(stream) as parquet,
        io.new_output(target).create() as output,
        pq.ParquetWriter(output, parquet.schema_arrow, compression="zstd") as writer,
    ):
        start = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group)
            kept = rows.filter(pa.array(keep[start : start + rows.num_rows]))
            start += rows.num_rows
            if kept.num_rows:
                writer.write_table(kept)
