"""A receipt: what was deleted for good, when and why. It names files of ours, never an image."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from datetime import datetime

from fruits.objects import write_json


@dataclass(frozen=True)
class Receipt:
    """What one erasure deletes; *why* is ``request`` or ``retention``.

    *images* counts the keys that were asked for, *versions* the objects of the images bucket that
    went, *rows* and *snapshots* what each table lost; *files* are the objects of the lake. One
    that is not *finished_at* any time was interrupted: what it names may be there or not.
    """

    id: str
    why: str
    started_at: str
    rows: dict[str, int]
    snapshots: dict[str, int]
    files: tuple[str, ...]
    bytes: int
    images: int = 0
    versions: int = 0
    finished_at: str | None = None


def receipt_id(now: datetime) -> str:
    """Return a new id: it sorts by time, and says nothing of what was erased."""
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def write_receipt(lake: str, receipt: Receipt) -> str:
    """Write the receipt into the lake, where nothing deletes it, and return its URI."""
    uri = f"{lake}/erasures/{receipt.id}.json"
    write_json(uri, asdict(receipt))
    return uri
