"""The watchdog's last look, as one small object: a guard that looks no more cannot say so itself.

The page shows it, and is loud when it is old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fruits.errors import MissingObjectError
from fruits.objects import read_json, storage_time, write_json


@dataclass(frozen=True)
class Look:
    """When the watchdog looked, by the clock of S3, and in words what it could not guard."""

    looked_at: datetime
    problems: tuple[str, ...]


def look_uri(lake: str) -> str:
    """Return where the last look is kept: beside the months of the ledger, in none of them."""
    return f"{lake}/ledger/last_look.json"


def remember_look(lake: str, problems: Sequence[str]) -> None:
    """Write down that the watchdog has looked just now, over the look before."""
    looked_at = storage_time(lake).isoformat()
    write_json(look_uri(lake), {"looked_at": looked_at, "problems": list(problems)})


def read_look(lake: str) -> Look | None:
    """Return the last look, or None if there never was one."""
    try:
        told = read_json(look_uri(lake))
    except MissingObjectError:
        return None
    return Look(datetime.fromisoformat(told["looked_at"]), tuple(told["problems"]))
