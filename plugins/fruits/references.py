"""Which files of a table its snapshots need, and how what they need becomes less.

PyIceberg deletes nothing but old metadata. A removed image is still there: in snapshots that may be
read, in files that no snapshot names, and in manifests that say of a file that it was deleted, with
the bounds of its columns, which are image keys.
"""

from __future__ import annotations

import logging
from datetime import datetime
from itertools import pairwise

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot

from fruits.errors import FruitsError

log = logging.getLogger(__name__)

# In the summary of a snapshot that changes no row.
FORGETS = {"fruits.commit": "forget"}


class HeldSnapshotsError(FruitsError):
    """Tags or branches keep snapshots of a table; fields: table, refs."""

    table: str
    refs: tuple[str, ...]


class MixedManifestError(FruitsError):
    """A manifest names deleted files beside live ones; fields: table, uri."""

    table: str
    uri: str


def refuse_held_snapshots(table: Table) -> None:
    """Raise HeldSnapshotsError if something besides the table's current state is kept by name."""
    refs = tuple(sorted(table.metadata.refs.keys() - {MAIN_BRANCH}))
    if refs:
        name = table.name()[-1]
        raise HeldSnapshotsError(
            f"Snapshots of {name} are kept by {', '.join(refs)}, whatever their age.",
            f"Remove them: open_table({name!r}).manage_snapshots().remove_tag(...).commit().",
            table=name,
            refs=refs,
        )


def forget_deleted_files(table: Table) -> None:
    """Leave the manifests out that only say which files are gone, if the current state has some.

    Raises MixedManifestError for a manifest that another engine wrote and that does both.
    """
    manifests = _manifests(table, table.current_snapshot())
    # A count that is unknown may be any.
    gone = [manifest for manifest in manifests if manifest.deleted_files_count != 0]
    for manifest in gone:
        if manifest.has_added_files() or manifest.has_existing_files():
            name = table.name()[-1]
            raise MixedManifestError(
                f"{manifest.manifest_path} of {name} names deleted files beside live ones.",
                "Rewrite it with the engine that wrote it (Spark: CALL system.rewrite_manifests).",
                table=name,
                uri=manifest.manifest_path,
            )
    if gone:
        with (
            table.transaction() as transaction,
            transaction.update_snapshot(snapshot_properties=FORGETS).fast_append(),
        ):
            pass  # an append takes over live files alone, also when it brings none
        log.info("%s forgets the files that it no longer has", table.name()[-1])


def expire_snapshots(table: Table, before: datetime) -> tuple[int, ...]:
    """Expire all snapshots that ceased to be the table's state *before* then; return their ids.

    However old its last change is, the table can be taken back to what it was at that time.
    """
    current = table.metadata.current_snapshot_id
    held = {ref.snapshot_id for ref in table.metadata.refs.values()} | {current}
    limit, replaced = before.timestamp() * 1000, _replaced(table)
    old = [
        snapshot.snapshot_id
        for snapshot in table.metadata.snapshots
        if replaced.get(snapshot.snapshot_id, snapshot.timestamp_ms) < limit
        and snapshot.snapshot_id not in held
    ]
    if old:
        table.maintenance.expire_snapshots().by_ids(old).commit()
    return tuple(old)


def _replaced(table: Table) -> dict[int, int]:
    """Return when each former state was replaced by another (ms), by the id of its snapshot.

    What `forget_deleted_files` made is the same state once more.
    """
    return {
        former.snapshot_id: later.timestamp_ms
        for former, later in pairwise(table.metadata.snapshot_log)
        if not _forgets(table.metadata.snapshot_by_id(later.snapshot_id))
    }


def _forgets(snapshot: Snapshot | None) -> bool:
    if snapshot is None or snapshot.summary is None:
        return False
    return bool(snapshot.summary.additional_properties.items() >= FORGETS.items())


def older_metadata(table: Table) -> set[str]:
    """Return the URIs of the metadata files before the current one, which its log names.

    They hold names of columns and files, and go by themselves when there are newer ones.
    """
    return {entry.metadata_file for entry in table.metadata.metadata_log}


def needed_files(table: Table) -> set[str]:
    """Return the URIs of all files without which a snapshot of the table could not be read."""
    metadata = table.metadata
    needed = {table.metadata_location}
    needed |= {file.statistics_path for file in metadata.statistics}
    needed |= {file.statistics_path for file in metadata.partition_statistics}
    read: set[str] = set()
    for snapshot in metadata.snapshots:
        needed.add(snapshot.manifest_list)
        for manifest in _manifests(table, snapshot):
            if manifest.manifest_path not in read:
                read.add(manifest.manifest_path)
                needed |= _live_files(table, manifest)
    return needed | read


def _live_files(table: Table, manifest: ManifestFile) -> set[str]:
    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    return {entry.data_file.file_path for entry in entries}


def _manifests(table: Table, snapshot: Snapshot | None) -> list[ManifestFile]:
    return snapshot.manifests(table.io) if snapshot else []
