"""Erasing images at once, because somebody asked for it: rows, history and everything between.

    python -m fruits.erasures [--yes] KEY ...

Each KEY is deleted from the images bucket with its old versions, and its rows from the tables; then
no snapshot but the current one stays, and every file that it does not need is deleted, with all
manifests, staging, logs and reports. What is left is a receipt that does not name the image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression, In, Reference
from pyiceberg.expressions.literals import literal
from pyiceberg.table import Table
from rich.markup import escape

from fruits.errors import FruitsError
from fruits.lake import ensure_tables, open_catalog, open_table
from fruits.leases import live_tokens
from fruits.objects import split_uri, storage_time
from fruits.originals import delete_originals, versions_of
from fruits.places import require_tables
from fruits.receipts import Receipt, receipt_id
from fruits.references import refuse_held_snapshots
from fruits.rewrites import Rewriter
from fruits.scans import stream_rows
from fruits.scratch import Scratch, scratch
from fruits.settings import Settings, load_settings
from fruits.swaps import Mark, Swap, commit_once
from fruits.sweeps import clear_away, find_rubbish, without_needed
from fruits.terminal import Terminal

TABLES = ("quarantine", "features", "components")


class RunInProgressError(FruitsError):
    """A run is writing to the lake, and might write what is being erased; field: tokens."""

    tokens: tuple[str, ...]


class WrongKeyError(FruitsError):
    """What was given is not the key of an image; field: key."""

    key: str


class RowsRemainError(FruitsError):
    """Rows of what was erased are there again; fields: table, rows."""

    table: str
    rows: int


def erase(settings: Settings, keys: Sequence[str]) -> tuple[Receipt, str]:
    """Erase the images *keys* from the bucket and from the lake; return the receipt and its URI.

    May be repeated, also after it was interrupted. Raises RunInProgressError, HeldSnapshotsError or
    UndeletedError (of the images bucket) before anything of the lake is changed; RunInProgressError
    also if a run has begun meanwhile, before files are deleted.
    """
    now, catalog = storage_time(settings.lake), open_catalog()
    ensure_tables(catalog)
    require_tables(catalog, settings.lake)
    _refuse_runs(settings.lake, "Nothing was erased.")
    for name in TABLES:
        refuse_held_snapshots(open_table(name, catalog))
    erasure = receipt_id(now)
    versions = delete_originals(settings.images_bucket, keys)
    rows = _erase_rows(catalog, keys, erasure)
    # Younger than now, too: clocks differ, and this erasure's own commits are rubbish in part. Not
    # of `runs`: it names no image, and a run that has no lease any more may be writing to it.
    rubbish = find_rubbish(catalog, settings.lake, now + timedelta(days=1), TABLES)
    _require_no_rows(catalog, keys)
    # One that began meanwhile may have written files that nothing needs yet, or commit them now.
    _refuse_runs(settings.lake, "The rows are gone; the files that had them are still there.")
    rubbish = without_needed(rubbish, catalog, TABLES)
    receipt = Receipt(
        erasure,
        "request",
        now.isoformat(),
        rows,
        {},
        (),
        0,
        images=len(keys),
        versions=versions,
    )
    return clear_away(settings.lake, rubbish, receipt)


def image_key(settings: Settings, text: str) -> str:
    """Return the key that *text* means: a key, or a URI of the images bucket.

    Raises WrongKeyError for a URI elsewhere and for a folder.
    """
    key = text
    if text.startswith("s3://"):
        bucket, key = split_uri(text)
        if bucket != settings.images_bucket:
            raise WrongKeyError(
                f"{text!r} is not in s3://{settings.images_bucket}.",
                "Give the key of an image of that bucket, or set FRUITS_IMAGES_URI.",
                key=text,
            )
    if not key or key.endswith("/"):
        raise WrongKeyError(
            f"{text!r} is no image.", "Give keys of images, each as S3 lists it.", key=text
        )
    return key


def _refuse_runs(lake: str, so_far: str) -> None:
    tokens = tuple(live_tokens(lake))
    if tokens:
        raise RunInProgressError(
            f"A run is in progress ({', '.join(tokens)}), and may write what is to be erased.",
            f"{so_far} Pause the DAG, wait until its run is over, and erase again.",
            tokens=tokens,
        )


def _erase_rows(catalog: Catalog, keys: Sequence[str], erasure: str) -> dict[str, int]:
    """Take all rows of *keys* out of the tables; return how many went from each."""
    mark = Mark(erasure, "erasure", erasure)
    with scratch() as space:
        space.run("CREATE TABLE doomed (image_key VARCHAR, etag VARCHAR)")
        space.run("CREATE TABLE claimed (image_key VARCHAR)")
        for name in TABLES:
            _doom(space, open_table(name, catalog), keys)
        rewriter = Rewriter(space, f"erasure-{erasure}")

        def plan(table: Table) -> Swap:
            rewritten = rewriter.plan(table)
            return Swap(
                removed=tuple(file.old for file in rewritten),
                added=tuple(file.new for file in rewritten if file.new),
                rows_removed=sum(file.rows for file in rewritten),
            )

        return {
            name: commit_once(open_table(name, catalog), mark, plan).rows_removed for name in TABLES
        }


def _doom(space: Scratch, table: Table, keys: Sequence[str]) -> None:
    scan = table.scan(_of(keys), selected_fields=("image_key", "etag"))
    select = "SELECT DISTINCT image_key, etag FROM incoming"
    space.insert_all("doomed", select, stream_rows(scan))


def _require_no_rows(catalog: Catalog, keys: Sequence[str]) -> None:
    for name in TABLES:
        rows = open_table(name, catalog).scan(_of(keys), selected_fields=("etag",)).count()
        if rows:
            raise RowsRemainError(
                f"{name} has {rows} rows of what is being erased: a run has added them meanwhile.",
                "Pause the DAG, wait until its run is over, and erase again.",
                table=name,
                rows=rows,
            )


def _of(keys: Sequence[str]) -> BooleanExpression:
    return In(term=Reference(name="image_key"), literals={literal(key) for key in keys})


def main(arguments: list[str] | None = None) -> int:
    """Erase; 0, 1 with what is wrong and the way out, or 2 if nobody confirmed."""
    parser = argparse.ArgumentParser(
        prog="python -m fruits.erasures",
        description=__doc__,
        epilog="Settings come from the environment (FRUITS_IMAGES_URI, FRUITS_LAKE_URI), "
        "credentials from where boto3 looks for them: they have to be allowed to delete images.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("keys", nargs="+", metavar="KEY", help="key of an image, as S3 lists it")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    terminal = Terminal()
    terminal.show_warnings()
    try:
        settings = load_settings()
        keys = sorted({image_key(settings, text) for text in options.keys})
        if not (options.yes or _confirmed(terminal, settings, keys)):
            terminal.say("Nothing was erased.")
            return 2
        receipt, uri = erase(settings, keys)
    except (FruitsError, BotoCoreError, ClientError) as error:
        terminal.say(f"[bold red]{type(error).__name__}[/bold red] {escape(str(error))}")
        return 1
    _tell(terminal, receipt, uri)
    return 0


def _confirmed(terminal: Terminal, settings: Settings, keys: Sequence[str]) -> bool:
    known = _known(settings, keys)
    for key in keys:
        unknown = "" if key in known else "   [yellow]no image and no row has this key[/yellow]"
        terminal.say(escape(f"s3://{settings.images_bucket}/{key}") + unknown)
    terminal.say(
        f"These {len(keys)} images, all their versions and rows are deleted for good, and with "
        f"them the history of the tables in {settings.lake}: time travel begins anew."
    )
    try:
        return input("  Type erase to go on: ").strip() == "erase"
    except EOFError:  # Ctrl-D, or nobody is there to be asked
        return False


def _known(settings: Settings, keys: Sequence[str]) -> set[str]:
    """Return those of *keys* that an image, an old version of one, or a row has."""
    catalog = open_catalog()
    ensure_tables(catalog)
    known = {one["Key"] for one in versions_of(settings.images_bucket, keys)}
    for name in TABLES:
        scan = open_table(name, catalog).scan(_of(keys), selected_fields=("image_key",))
        known.update(scan.to_arrow()["image_key"].to_pylist())
    return known


def _tell(terminal: Terminal, receipt: Receipt, uri: str) -> None:
    if not (receipt.versions or any(receipt.rows.values())):
        terminal.say("[yellow]No image and no row had this key: was it mistyped?[/yellow]")
    rows = ", ".join(f"{rows} of {name}" for name, rows in receipt.rows.items())
    told = {
        "versions of images": str(receipt.versions),
        "rows": rows,
        "snapshots": str(sum(receipt.snapshots.values())),
        "objects of the lake": f"{len(receipt.files)}, {receipt.bytes / 1e6:.1f} MB",
        "receipt": uri,
    }
    terminal.table("Erased", told)


if __name__ == "__main__":
    sys.exit(main())
