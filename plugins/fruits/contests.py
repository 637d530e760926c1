"""Commits that other writers may win: tried again a few times, never for ever."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pyiceberg.exceptions import CommitFailedException, ValidationException

from fruits.errors import CommitConflictError

log = logging.getLogger(__name__)

ATTEMPTS = 5
LOST = (CommitFailedException, ValidationException)
Made = TypeVar("Made")


def win(table: str, commit: Callable[[], Made]) -> Made:
    """Return what *commit* returns, called again while another writer of *table* is first.

    It has to look at the table anew each time. CommitConflictError after 5 attempts.
    """
    for attempt in range(ATTEMPTS):
        try:
            return commit()
        except LOST as error:
            log.warning("Another writer changed %s first (attempt %d): %s", table, attempt, error)
            # Spreads writers. The floor lets a store's caches forget the files that PyIceberg just
            # removed: rclone shows a folder as empty for 0.1 s after a removal through pyarrow.
            time.sleep(random.uniform(0.2, 0.4 * (attempt + 1)))  # noqa: S311
    raise CommitConflictError(
        f"Other writers changed {table} before each of {ATTEMPTS} attempts to commit.",
        "Look for what else writes to the table, then clear this task.",
        table=table,
        attempts=ATTEMPTS,
    )
