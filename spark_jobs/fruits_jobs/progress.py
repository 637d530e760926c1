"""How far a step is: an object in S3 for the sensor that waits, lines for who reads the log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from fruits_jobs.objects import write_json

WRITE_SECONDS = 2.0
WRITES_PER_LINE = 3
PATIENCE = 10.0  # seconds that the end of a step may wait for an S3 that does not answer, twice


@dataclass(frozen=True)
class Snapshot:
    """One state of a step, as progress.json has it; *eta_seconds* is None before any image."""

    step: str
    done: int
    total: int
    images_per_second: float
    eta_seconds: float | None
    updated_at: str


def snapshot(step: str, done: int, total: int, seconds: float) -> Snapshot:
    """Return the state after *seconds* of work; *done* is cut at *total*, for repeated tasks."""
    done = min(done, total)
    rate = done / seconds if seconds > 0 else 0.0
    eta = round((total - done) / rate, 1) if rate else None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Snapshot(step, done, total, round(rate, 1), eta, now)


def say(line: str) -> None:
    """Write one line to the step's stdout, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Progress:
    """A thread that reports how far *done()* is of *total* until the `with` block is left."""

    def __init__(
        self,
        step: str,
        total: int,
        done: Callable[[], int],
        uri: str,
        region: str,
    ) -> None:
        self._step, self._total, self._done = step, total, done
        self._uri, self._region = uri, region
        self._stopped = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._report(aloud=True)

    def _run(self) -> None:
        reports = 0
        while not self._stopped.wait(WRITE_SECONDS):
            reports += 1
            self._report(aloud=reports % WRITES_PER_LINE == 0)

    def _report(self, *, aloud: bool) -> None:
        seconds = time.monotonic() - self._started
        now = snapshot(self._step, self._done(), self._total, seconds)
        if aloud:
            say(line(now))
        try:
            write_json(self._uri, asdict(now), self._region, PATIENCE)
        except Exception as error:  # noqa: BLE001  (progress is a courtesy; the step goes on)
            say(f"{self._step}: progress could not be written: {error}")


def line(now: Snapshot) -> str:
    """Return the state as a sentence for the log."""
    eta = f", {now.eta_seconds:.0f} s to go" if now.eta_seconds else ""
    share = f"{now.done / now.total:.0%}" if now.total else "100%"
    return (
        f"{now.step}: {now.done:,} of {now.total:,} images ({share}),"
        f" {now.images_per_second:.1f} images/s{eta}"
    )
