"""Deleting for good what nothing needs any longer: a removed image is gone when its files are.

    python -m fruits.sweeps

Snapshots expire a retention after they ceased to be what their table is, and every file that no
snapshot needs is deleted, with the lists, logs and reports that name images and are as old. The DAG
`fruits_retention` does it each day. Files that are younger stay: a run may be about to commit them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from fruits.errors import FruitsError
from fruits.lake import SCHEMAS, ensure_tables, open_catalog, open_table
from fruits.lifetimes import goes_with_age
from fruits.objects import exists, split_uri, storage_time
from fruits.places import require_tables
from fruits.receipts import Receipt, receipt_id, write_receipt
from fruits.references import (
    HeldSnapshotsError,
    expire_snapshots,
    forget_deleted_files,
    needed_files,
    older_metadata,
    refuse_held_snapshots,
)
from fruits.settings import Settings, load_settings
from fruits.statistics_entries import stale_statistics
from fruits.stored import Stored, delete_all, stored

log = logging.getLogger(__name__)


class LostFilesError(FruitsError):
    """Files that a table needs are not where it says; fields: table, uris."""

    table: str
    uris: tuple[str, ...]


@dataclass(frozen=True)
class Rubbish:
    """What nothing needs: *snapshots* that expired, by table, and the objects of the lake."""

    snapshots: dict[str, int]
    files: tuple[Stored, ...]


def find_rubbish(
    catalog: Catalog, lake: str, before: datetime, tables: Iterable[str] = tuple(SCHEMAS)
) -> Rubbish:
    """Expire the states that ceased *before* then; return them and all as old that nothing needs.

    Raises LostFilesError if a table misses files that it needs: then this does not understand the
    table, and what it took for rubbish might not be.
    """
    snapshots: dict[str, int] = {}
    files: list[Stored] = []
    for name in tables:
        snapshots[name], unneeded = _unneeded(open_table(name, catalog), before)
        files += unneeded
    files += stale_statistics(catalog, lake)
    files += (
        one
        for one in stored(f"{lake}/")
        if one.modified < before and goes_with_age(one.uri.removeprefix(f"{lake}/"))
    )
    return Rubbish(snapshots, tuple(files))


def without_needed(rubbish: Rubbish, catalog: Catalog, tables: Iterable[str]) -> Rubbish:
    """Return *rubbish* without the files that were committed since it was found."""
    needed = {uri for name in tables for uri in needed_files(open_table(name, catalog))}
    files = tuple(file for file in rubbish.files if file.uri not in needed)
    return replace(rubbish, files=files)


def clear_away(lake: str, rubbish: Rubbish, receipt: Receipt) -> tuple[Receipt, str]:
    """Delete the objects; return *receipt* with what went, and its URI.

    It is written before they are deleted, too: what is interrupted leaves a trace.
    """
    receipt = replace(
        receipt,
        snapshots=rubbish.snapshots,
        files=tuple(file.uri for file in rubbish.files),
        bytes=sum(file.bytes for file in rubbish.files),
    )
    write_receipt(lake, receipt)
    keys = [{"Key": split_uri(file.uri)[1]} for file in rubbish.files]
    delete_all(split_uri(lake)[0], keys)
    receipt = replace(receipt, finished_at=storage_time(lake).isoformat())
    return receipt, write_receipt(lake, receipt)


def sweep(settings: Settings) -> dict[str, Any]:
    """Delete for good what is older than the retention; return the receipt, if anything went.

    Snapshots that a tag or a branch keeps are named in the log: they keep removed images.
    """
    now, catalog = storage_time(settings.lake), open_catalog()
    ensure_tables(catalog)
    require_tables(catalog, settings.lake)
    _warn_of_held_snapshots(catalog)
    before = now - timedelta(days=settings.retention_days)
    rubbish = find_rubbish(catalog, settings.lake, before)
    if not rubbish.files:
        return {"receipt": None, "objects": 0, "bytes": 0}
    empty = Receipt(receipt_id(now), "retention", now.isoformat(), {}, {}, (), 0)
    receipt, uri = clear_away(settings.lake, rubbish, empty)
    log.info("%d objects, %.1f MB went: %s", len(receipt.files), receipt.bytes / 1e6, uri)
    return {"receipt": uri, "objects": len(receipt.files), "bytes": receipt.bytes}


def _unneeded(table: Table, before: datetime) -> tuple[int, list[Stored]]:
    """Expire old snapshots; return how many, and the files that nobody needs any more."""
    # What is committed after this listing is not in it, and so is not deleted.
    there = list(stored(f"{table.location().rstrip('/')}/"))
    table.refresh()
    forget_deleted_files(table)
    expired = expire_snapshots(table, before)
    table.refresh()
    needed = needed_files(table)
    _require(table, needed - {one.uri for one in there})
    kept = needed | older_metadata(table)
    unneeded = [one for one in there if one.uri not in kept and one.modified < before]
    return len(expired), unneeded


def _require(table: Table, needed: Iterable[str]) -> None:
    lost = tuple(sorted(uri for uri in needed if not exists(uri)))
    if lost:
        raise LostFilesError(
            f"{table.name()[-1]} names {len(lost)} files that are not there, {lost[0]} among them.",
            "Nothing was deleted. Find out who deleted them; a table without them cannot be read.",
            table=table.name()[-1],
            uris=lost,
        )


def _warn_of_held_snapshots(catalog: Catalog) -> None:
    for name in SCHEMAS:
        try:
            refuse_held_snapshots(open_table(name, catalog))
        except HeldSnapshotsError as held:
            log.warning("%s", held)


def main(arguments: list[str] | None = None) -> int:
    """Sweep once; 0, or 1 with what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m fruits.sweeps",
        description=__doc__,
        epilog="Settings come from the environment (FRUITS_LAKE_URI, FRUITS_RETENTION_DAYS), "
        "credentials from where boto3 looks for them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    for library in ("botocore", "pyiceberg"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        done = sweep(load_settings())
    except (FruitsError, BotoCoreError, ClientError) as error:
        log.error("%s", error)  # noqa: TRY400  (the traceback says nothing more)
        return 1
    if not done["receipt"]:
        log.info("Nothing is older than the retention and not needed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
