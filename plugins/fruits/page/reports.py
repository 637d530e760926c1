"""The reports of batches as they lie in the lake, read as the parts of the page are."""

from __future__ import annotations

import threading

from fruits.errors import MissingObjectError
from fruits.objects import read_bytes
from fruits.page.parts import PATIENCE, Part, Reading
from fruits.reports import report_folder

# Reports that are read at once: a lake that hangs gets no thread for each one that is asked for.
MOST = 10


class Reports:
    """Reads reports; safe for several threads."""

    def __init__(self, lake: str, patience: float = PATIENCE) -> None:
        self._lake, self._patience = lake, patience
        self._lock = threading.Lock()
        self._under_way: dict[str, Part[bytes | None]] = {}

    def read(self, batch: str) -> Reading[bytes | None]:
        """Return the batch's report, or None if there is none."""
        with self._lock:
            parts = {name: one for name, one in self._under_way.items() if one.is_under_way}
            if batch not in parts and len(parts) == MOST:
                return Reading(None, f"{MOST} others have not been read yet")
            part = parts.setdefault(batch, self._part(batch))
            part.begin()
            self._under_way = parts
        return part.reading()

    def _part(self, batch: str) -> Part[bytes | None]:
        return Part(f"the report of {batch}", lambda: _report(self._lake, batch), self._patience)


def _report(lake: str, batch: str) -> bytes | None:
    try:
        return read_bytes(f"{report_folder(lake, batch)}/report.html")
    except MissingObjectError:
        return None
