"""A limit on bytes held at once, so that a folder of large photographs does not exhaust memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ByteBudget:
    """At most *limit* bytes reserved at once, shared by threads.

    One reservation larger than the limit is still granted, when it is alone.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._reserved = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Hold *size* bytes of the budget, waiting until they are free."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._reserved or self._reserved + size <= self.limit
            )
            self._reserved += size
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= size
                self._changed.notify_all()
