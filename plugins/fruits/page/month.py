"""The month's money: what its clusters cost or were promised, against the month's cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fruits.clusters import cluster_roles
from fruits.costs import read_prices, worst_case
from fruits.ledger import month_entries, month_of
from fruits.objects import storage_time

if TYPE_CHECKING:
    from datetime import datetime

    from fruits.settings import Settings


@dataclass(frozen=True)
class Month:
    """What one month comes to; *spent* is known, *promised* is charged until it is known.

    *next_promise* is what one more cluster with the deployment's own settings would promise.
    """

    name: str
    now: datetime
    spent: float
    promised: float
    cap: float
    currency: str
    clusters: int
    unsettled: int
    next_promise: float

    @property
    def charged(self) -> float:
        """What counts against the cap."""
        return self.spent + self.promised

    @property
    def is_full(self) -> bool:
        """Whether the next cluster would be refused."""
        return self.charged + self.next_promise > self.cap


def read_month(settings: Settings) -> Month:
    """Return the current month's money, by the clock of S3, as the ledger has it."""
    now, prices = storage_time(settings.lake), read_prices(settings.region)
    entries = month_entries(settings.lake, month_of(now))
    unsettled = [entry for entry in entries if entry.spent is None]
    promise = worst_case(cluster_roles(settings), settings.cap_minutes, prices)
    return Month(
        name=f"{now:%B %Y}",
        now=now,
        spent=sum(entry.spent for entry in entries if entry.spent is not None),
        promised=sum(entry.worst_case for entry in unsettled),
        cap=settings.month_cap_money,
        currency=prices.currency,
        clusters=len(entries),
        unsettled=len(unsettled),
        next_promise=promise.amount,
    )
