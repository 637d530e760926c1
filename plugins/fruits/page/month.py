"""The month's money: what its clusters cost or were promised, against the month's cap."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fruits.clusters import cluster_roles
from fruits.costs import age_warning, read_prices, worst_case
from fruits.ledger import READERS, Entry, month_of, month_prefix, read_entry
from fruits.objects import list_versions, storage_time

if TYPE_CHECKING:
    from fruits.settings import Settings


@dataclass(frozen=True)
class Month:
    """What one month comes to; *spent* is known, *promised* is charged until it is known.

    *next_promise* is what one more cluster with the deployment's own settings would promise,
    *prices_warning* what to do about a price table that is soon, or already, too old.
    """

    name: str
    spent: float
    promised: float
    cap: float
    currency: str
    clusters: int
    unsettled: int
    next_promise: float
    prices_warning: str | None

    @property
    def charged(self) -> float:
        """What counts against the cap."""
        return self.spent + self.promised

    @property
    def is_full(self) -> bool:
        """Whether the next cluster, with as many workers as it may have, would be refused."""
        return self.charged + self.next_promise > self.cap


class Ledger:
    """The entries of a month, of which each version is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Entry | None] = {}

    def entries(self, lake: str, month: str) -> list[Entry]:
        """Return the entries of *month* as they are now; raises UnreadableEntryError."""
        versions = list(list_versions(month_prefix(lake, month)).items())
        unknown = [one for one in versions if one not in self._known]
        with ThreadPoolExecutor(READERS) as pool:
            read = dict(
                zip(unknown, pool.map(lambda one: read_entry(one[0]), unknown), strict=True)
            )
        # What is not listed any more is forgotten.
        self._known = {one: read.get(one) or self._known.get(one) for one in versions}
        return [entry for entry in self._known.values() if entry]


def read_month(settings: Settings, ledger: Ledger) -> Month:
    """Return the current month's money, by the clock of S3, as the ledger has it."""
    now, prices = storage_time(settings.lake), read_prices(settings.region)
    entries = ledger.entries(settings.lake, month_of(now))
    unsettled = [entry for entry in entries if entry.spent is None]
    promise = worst_case(cluster_roles(settings), settings.cap_minutes, prices)
    return Month(
        name=f"{now:%B %Y}",
        spent=sum(entry.spent for entry in entries if entry.spent is not None),
        promised=sum(entry.worst_case for entry in unsettled),
        cap=settings.month_cap_money,
        currency=prices.currency,
        clusters=len(entries),
        unsettled=len(unsettled),
        next_promise=promise.amount,
        prices_warning=age_warning(prices, now.date(), settings.prices_max_age_days),
    )
