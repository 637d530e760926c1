"""Reads one part of the page in a thread of its own: whatever hangs, a request is answered soon.

The clients of S3 and of the catalog are patient, as tasks need them to be: minutes may pass until
they give up. Nobody looks at a page for so long, and a server whose threads all wait shows nothing
of Airflow either.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")
# Seconds. What is well takes a tenth of one; a process's first request imports PyIceberg.
PATIENCE = 8.0


@dataclass(frozen=True)
class Reading(Generic[T]):
    """One part of the page: its *value*, or the *trouble* that kept it from being read."""

    value: T | None
    trouble: str = ""


class Part(Generic[T]):
    """One part, read by *read* in one thread at a time; *what* is its name in the log.

    What hangs is not begun again while it does: it holds one thread, however many ask. Two threads
    may wait for it at once, but not begin it.
    """

    def __init__(self, what: str, read: Callable[[], T], patience: float = PATIENCE) -> None:
        self._what, self._read, self._patience = what, read, patience
        self._answer: Future[Reading[T]] | None = None
        self._due = float("-inf")

    @property
    def is_under_way(self) -> bool:
        """Whether its thread still reads."""
        return self._answer is not None and not self._answer.done()

    def begin(self) -> None:
        """Begin to read it, unless that is under way."""
        if not self.is_under_way:
            self._answer, self._due = Future(), time.monotonic() + self._patience
            # A daemon: a server that is asked to stop need not wait for what hangs.
            threading.Thread(target=self._fill, args=(self._answer,), daemon=True).start()

    def reading(self) -> Reading[T]:
        """Return what was read; a gap if that is not known *patience* seconds after it was begun.

        Whoever asks later than that does not wait at all.
        """
        left = self._due - time.monotonic()
        try:
            return self._answer.result(max(left, 0)) if self._answer else gap(self._patience)
        except TimeoutError:
            if left > 0:  # said once, however many ask
                log.warning("The page cannot show %s: no answer yet", self._what)
            return gap(self._patience)

    def _fill(self, answer: Future[Reading[T]]) -> None:
        answer.set_result(attempt(self._what, self._read))


def gap(seconds: float) -> Reading[T]:
    """Return the gap for what did not answer in so many seconds."""
    return Reading(None, f"no answer within {seconds:g} s")


def attempt(what: str, read: Callable[[], T]) -> Reading[T]:
    """Return what *read* returns, or the kind of what went wrong: a message may name too much."""
    try:
        return Reading(read())
    except Exception as error:
        log.exception("The page cannot show %s", what)
        return Reading(None, type(error).__name__)
