"""What a person sees in a terminal while a batch runs: a line per stage, progress, a last table."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

PROGRESS_SECONDS = 5.0


@dataclass
class Terminal:
    """Prints to a terminal, or plain lines into a pipe; remembers how long each stage took (s)."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    seconds: dict[str, float] = field(default_factory=dict)
    _last_progress: float = 0.0
    _shown: str | None = None

    def show_warnings(self) -> None:
        """Print the library's warnings, and nothing below them."""
        logging.basicConfig(level=logging.WARNING, format="  %(message)s")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name the stage that runs inside, and say how long it took once it is done."""
        started = time.monotonic()
        self.console.print(f"[bold]{name}[/bold] ...")
        yield
        self.seconds[name] = time.monotonic() - started

    def say(self, text: str) -> None:
        """Print one indented line about the current stage."""
        self.console.print(f"  {text}")

    def progress(self, line: str | None) -> None:
        """Print a line of progress, if it is news, at most every few seconds."""
        now = time.monotonic()
        if line in (None, self._shown) or now - self._last_progress < PROGRESS_SECONDS:
            return
        self._shown, self._last_progress = line, now
        self.say(str(line))

    def table(self, title: str, rows: Mapping[str, str]) -> None:
        """Print *rows* as a two-column table."""
        table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
        table.add_column()
        table.add_column(overflow="fold")  # a URI that is cut is of no use
        for name, value in rows.items():
            table.add_row(name, value)
        self.console.print()
        self.console.print(table)
