"""What a cluster can cost at the worst, and what it did cost: numbers in, arithmetic spelled out.

Prices come from a dated table in this folder (`python -m fruits.prices` refreshes it). A cluster is
charged here for every node at its on-demand price (Spot too), with EMR's fee and its disks: at the
worst from creation to its cap and a margin, in the end for as long as each node lived.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from fruits.errors import FruitsError

TABLE = Path(__file__).with_name("prices.json")
HOURS_PER_MONTH = 730  # AWS's own month for storage
# Minutes between two looks of the watchdog.
WATCHDOG_PERIOD = 10
# Minutes after the cap that a promise covers: one period of the watchdog, and 5 in which it looks
# and EMR ends the cluster.
MARGIN = WATCHDOG_PERIOD + 5
# Days for which a price table is warned of before it is refused.
WARNED_DAYS = 60
# EC2 bills no less than one minute.
LEAST_SECONDS = 60


class UnknownPriceError(FruitsError):
    """No price is known for an instance type; fields: region, instance_type, known."""

    region: str
    instance_type: str
    known: tuple[str, ...]


class OldPricesError(FruitsError):
    """The price table is older than allowed; fields: as_of, max_age_days."""

    as_of: date
    max_age_days: int


class CostCapError(FruitsError):
    """A cluster may cost more than its cap allows; fields: worst_case, cap, currency."""

    worst_case: float
    cap: float
    currency: str


@dataclass(frozen=True)
class Price:
    """What one instance of a type costs per hour: EC2 on demand and EMR's fee on top."""

    vcpus: int
    memory_gib: int
    ec2: float
    emr: float


@dataclass(frozen=True)
class PriceTable:
    """Prices of one region on one day; *gp3* is per GB and month."""

    region: str
    as_of: date
    currency: str
    source: str
    gp3: float
    instances: dict[str, Price]

    def price(self, instance_type: str) -> Price:
        """Return the price of *instance_type*, or raise UnknownPriceError with the known ones."""
        if instance_type not in self.instances:
            raise UnknownPriceError(
                f"There is no price for {instance_type} in {self.region}, so no cap could hold.",
                f"Known are {', '.join(sorted(self.instances))}; "
                f"`python -m fruits.prices {instance_type}` adds it.",
                region=self.region,
                instance_type=instance_type,
                known=tuple(sorted(self.instances)),
            )
        return self.instances[instance_type]


@dataclass(frozen=True)
class Role:
    """The nodes of one role: how many at the most, of which type, with how much disk (GB) each."""

    name: str
    instance_type: str
    count: int
    disk_gb: int


@dataclass(frozen=True)
class Usage:
    """One instance as it was billed: its type, how long it lived (s), and its disk (GB)."""

    instance_type: str
    seconds: float
    disk_gb: int


@dataclass(frozen=True)
class Estimate:
    """A cost with what adds up to it, a line for each role."""

    amount: float
    currency: str
    minutes: float
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' + '.join(self.lines)} = {self.amount:.2f} {self.currency}"


def read_prices(region: str, table: Path = TABLE) -> PriceTable:
    """Return the price table of *region*."""
    content = _content(table)
    priced = content["regions"][region]
    return PriceTable(
        region=region,
        as_of=date.fromisoformat(content["as_of"]),
        currency=content["currency"],
        source=content["source"],
        gp3=priced["gp3"],
        instances={name: Price(**price) for name, price in priced["instances"].items()},
    )


def check_age(prices: PriceTable, today: date, max_age_days: int) -> None:
    """Raise OldPricesError if the table is more than *max_age_days* old."""
    if today - prices.as_of > timedelta(days=max_age_days):
        raise OldPricesError(
            f"The price table is of {prices.as_of}, more than {max_age_days} days old.",
            "Refresh it with `python -m fruits.prices`, or allow its age with "
            "FRUITS_PRICES_MAX_AGE_DAYS.",
            as_of=prices.as_of,
            max_age_days=max_age_days,
        )


def age_warning(prices: PriceTable, today: date, max_age_days: int) -> str | None:
    """Return what to do while there is time, if the table is refused in WARNED_DAYS; else None."""
    last = prices.as_of + timedelta(days=max_age_days)
    if last - today > timedelta(days=WARNED_DAYS):
        return None
    return (
        f"The price table is of {prices.as_of}: after {last} no cluster is created with it. "
        "Refresh it with `python -m fruits.prices`."
    )


def cost(roles: tuple[Role, ...], minutes: float, prices: PriceTable) -> Estimate:
    """Return what the nodes of *roles* cost in *minutes*."""
    hours = max(minutes * 60, LEAST_SECONDS) / 3600
    amounts = [_role_cost(role, hours, prices) for role in roles]
    lines = tuple(line for _, line in amounts)
    return Estimate(sum(amount for amount, _ in amounts), prices.currency, minutes, lines)


def worst_case(roles: tuple[Role, ...], cap_minutes: float, prices: PriceTable) -> Estimate:
    """Return what the nodes of *roles* cost if they live to their cap and MARGIN beyond it."""
    return cost(roles, cap_minutes + MARGIN, prices)


def spent(usages: Iterable[Usage], prices: PriceTable) -> float:
    """Return what the instances cost in the end, in the currency of *prices*."""
    return sum(
        _hourly(prices.price(used.instance_type), used.disk_gb, prices)
        * max(used.seconds, LEAST_SECONDS)
        / 3600
        for used in usages
    )


def check_cap(promise: Estimate, cap: float) -> None:
    """Raise CostCapError, with the arithmetic, if *promise*, a worst case, is above *cap*."""
    if promise.amount > cap:
        raise CostCapError(
            f"This cluster could cost {promise.amount:.2f} {promise.currency} in its "
            f"{promise.minutes - MARGIN:g} minutes and {MARGIN} more until the watchdog has ended "
            f"it, above FRUITS_CAP_MONEY ({cap:.2f}): {promise}.",
            "Take fewer or smaller workers or fewer minutes, or raise the cap.",
            worst_case=promise.amount,
            cap=cap,
            currency=promise.currency,
        )


def _role_cost(role: Role, hours: float, prices: PriceTable) -> tuple[float, str]:
    price = prices.price(role.instance_type)
    disk = role.disk_gb * prices.gp3 / HOURS_PER_MONTH
    amount = role.count * _hourly(price, role.disk_gb, prices) * hours
    line = (
        f"{role.name}: {role.count} x {role.instance_type} x ({price.ec2:g} EC2 + {price.emr:g} EMR"
        f" + {disk:.4f} for {role.disk_gb} GB) {prices.currency}/h x {hours:.2f} h = {amount:.2f}"
    )
    return amount, line


def _hourly(price: Price, disk_gb: int, prices: PriceTable) -> float:
    return price.ec2 + price.emr + disk_gb * prices.gp3 / HOURS_PER_MONTH


@cache
def _content(table: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(table.read_text())
    return content
