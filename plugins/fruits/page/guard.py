"""Whether the watchdog looks: without it a cluster whose run is gone lives until its own limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from fruits.costs import WATCHDOG_PERIOD
from fruits.looks import read_look
from fruits.objects import storage_time


@dataclass(frozen=True)
class Guard:
    """How long ago the watchdog looked (None: never), and how many things it could not guard.

    *needed_for* is how long there has been a batch or a cluster: a new installation has its first
    batch before the watchdog's first look.
    """

    age: timedelta | None
    problems: int
    needed_for: timedelta = timedelta(0)

    period: ClassVar[timedelta] = timedelta(minutes=WATCHDOG_PERIOD)

    @property
    def is_missed(self) -> bool:
        """Whether it should have looked: two looks in a row may fail for reasons that pass."""
        return (self.needed_for if self.age is None else self.age) > 3 * self.period


def read_guard(lake: str) -> Guard:
    """Return what the last look tells, its age by the clock of S3."""
    look = read_look(lake)
    if look is None:
        return Guard(None, 0)
    return Guard(max(storage_time(lake) - look.looked_at, timedelta(0)), len(look.problems))
