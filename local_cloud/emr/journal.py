"""What the endpoint was asked and what happened, one JSON object a line, never rewritten.

`kind` is `call` (action, region, parameters, the caller's User-Agent as `agent`, and `answer` or
`error`), `cluster` or `step` (a change of state), `node` (somebody called `shutdown` there), or
`note` (something of the endpoint itself: a start, a log it could not bring).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "journal.jsonl"


class Journal:
    """Appends to *folder*/journal.jsonl, from any thread."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = folder / NAME
        self._clock = clock
        self._lock = threading.Lock()
        self._is_torn = False
        folder.mkdir(parents=True, exist_ok=True)
        self._close_torn_line()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one entry with the time, in seconds since the epoch."""
        line = json.dumps({"time": self._clock(), "kind": kind, **fields}, default=str)
        with self._lock:
            if self._is_torn:
                self._close_torn_line()
            self._is_torn = True
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            self._is_torn = False

    def _close_torn_line(self) -> None:
        """End a line that was left half written (killed, full disk), lest the next one joins it."""
        if self.path.exists() and (content := self.path.read_bytes()) and content[-1:] != b"\n":
            with self.path.open("ab") as file:
                file.write(b"\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the entries of the journal at *path*, oldest first; torn lines are left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def accepted_calls(path: Path, action: str) -> list[dict[str, Any]]:
    """Return the calls of *action* that were answered without an error, oldest first."""
    return [
        entry
        for entry in read(path)
        if entry["kind"] == "call" and entry["action"] == action and "error" not in entry
    ]
