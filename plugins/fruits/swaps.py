"""One snapshot that takes data files out of a table and puts others in, made exactly once.

A commit is known by its mark in the snapshot's summary. Whoever makes it looks for the mark first,
so a commit may be repeated after a crash, a lost answer or beside a twin: it happens once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pyiceberg.io.pyarrow import parquet_files_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from fruits.contests import LOST, win
from fruits.errors import CommittedFileError, DeletedFilesError
from fruits.lake import LakeFile, scan_files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
    """What a commit is known by: its batch, its kind, and what it was made from.

    *made_from* (the sensing, or the features snapshot and the model version) is the same for every
    attempt at one commit. It changes when a run is cleared and senses anew, or fits another
    version, which has to be committed although the batch is the same.
    """

    batch: str
    kind: str
    made_from: str

    def summary(self) -> dict[str, str]:
        """Return the mark as properties of a snapshot's summary."""
        return {
            "fruits.batch": self.batch,
            "fruits.commit": self.kind,
            "fruits.made-from": self.made_from,
        }

    def find(self, table: Table) -> Snapshot | None:
        """Return the snapshot of *table*, current or not, that carries this mark."""
        wanted = self.summary().items()
        for snapshot in reversed(table.metadata.snapshots):
            summary = snapshot.summary
            if summary and all(summary.additional_properties.get(k) == v for k, v in wanted):
                return snapshot
        return None


@dataclass(frozen=True)
class Swap:
    """What one commit changes: files out, files in, table properties."""

    removed: tuple[DataFile, ...] = ()
    added: tuple[DataFile, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)
    rows_removed: int = 0
    rows_added: int = 0

    def changes(self, table: Table) -> bool:
        """Say whether the swap would leave *table* other than it is."""
        return bool(
            self.removed or self.added or self.properties.items() - table.properties.items()
        )


@dataclass(frozen=True)
class Committed:
    """What a commit did to one table; no snapshot_id: nothing was to be done."""

    table: str
    snapshot_id: int | None
    rows_added: int
    rows_removed: int


def commit_once(table: Table, mark: Mark, plan: Callable[[Table], Swap]) -> Committed:
    """Make the commit *mark* upon *table* unless it is made; *plan* says what it changes.

    Data and properties go in one transaction. *plan* is called again when another writer was first,
    with the table as that writer left it. CommitConflictError after 5 attempts.
    """
    return win(table.name()[-1], lambda: _commit_once(table, mark, plan))


def _commit_once(table: Table, mark: Mark, plan: Callable[[Table], Swap]) -> Committed:
    name = table.name()[-1]
    table.refresh()
    if snapshot := mark.find(table):
        return committed(name, snapshot)
    swap = plan(table)
    if not swap.changes(table):
        return committed(name, None)
    try:
        _commit(table, mark, swap)
    except LOST:
        raise
    except Exception:
        # The answer may be lost although the commit went through: only the table knows.
        table.refresh()
        if not (snapshot := mark.find(table)):
            raise
        log.warning("The commit to %s went through although its answer was lost", name)
    return committed(name, mark.find(table))


def to_data_files(table: Table, files: Iterable[LakeFile]) -> tuple[DataFile, ...]:
    """Return what a step wrote as data files of *table*, with bounds from their footers."""
    # A file without rows has no bounds to take its partition from, and nothing to commit.
    uris = (file.uri for file in files if file.rows)
    return tuple(parquet_files_to_data_files(table.io, table.metadata, uris))


def _commit(table: Table, mark: Mark, swap: Swap) -> None:
    _refuse_committed(table, swap)
    _refuse_deleted(table, swap)
    rows = {
        "fruits.rows-added": str(swap.rows_added),
        "fruits.rows-removed": str(swap.rows_removed),
    }
    with table.transaction() as transaction:
        if swap.properties:
            transaction.set_properties(swap.properties)
        if swap.removed or swap.added:
            update = transaction.update_snapshot(snapshot_properties=mark.summary() | rows)
            # Not an append, even when nothing is removed: PyIceberg would repeat an append upon a
            # twin's commit, and the rows would be there twice.
            with update.overwrite() as overwrite:
                for file in swap.removed:
                    overwrite.delete_data_file(file)
                for file in swap.added:
                    overwrite.append_data_file(file)


def _refuse_committed(table: Table, swap: Swap) -> None:
    present = {file.file_path for file in scan_files(table)}
    again = sorted(present & {file.file_path for file in swap.added})
    if again:
        raise CommittedFileError(
            f"{len(again)} files are in {table.name()[-1]} already, {again[0]} among them.",
            "Committed files are never written again: give the attempt a folder of its own.",
            table=table.name()[-1],
            uris=tuple(again),
        )


def _refuse_deleted(table: Table, swap: Swap) -> None:
    lost = sorted(
        file.file_path for file in swap.added if not table.io.new_input(file.file_path).exists()
    )
    if lost:
        raise DeletedFilesError(
            f"{len(lost)} files for {table.name()[-1]} were deleted before they were committed, "
            f"{lost[0]} among them.",
            "An image was erased meanwhile? Clear this task; if it fails again, the step, too.",
            table=table.name()[-1],
            uris=tuple(lost),
        )


def committed(name: str, snapshot: Snapshot | None) -> Committed:
    """Return what the marked *snapshot* of the table *name* did; None did nothing."""
    if snapshot is None or snapshot.summary is None:
        return Committed(name, None, 0, 0)
    summary = snapshot.summary.additional_properties
    added, removed = (int(summary[f"fruits.rows-{what}"]) for what in ("added", "removed"))
    return Committed(name, snapshot.snapshot_id, added, removed)
