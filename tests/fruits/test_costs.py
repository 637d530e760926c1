"""Costs: the worst case is what a cluster can really cost, and what cannot be priced is refused."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fruits.costs import (
    CostCapError,
    OldPricesError,
    Price,
    PriceTable,
    Role,
    UnknownPriceError,
    check_age,
    check_cap,
    cost,
    read_prices,
)
from fruits.settings import EU_REGIONS, Settings

PRICES = PriceTable(
    region="eu-west-3",
    as_of=date(2026, 1, 1),
    currency="USD",
    source="made up",
    gp3=0.073,
    instances={"small": Price(4, 16, 0.2, 0.05), "large": Price(8, 32, 0.4, 0.1)},
)
PRIMARY = Role("primary", "small", 1, 100)


def test_the_arithmetic_is_that_of_the_bill() -> None:
    """Nodes x (EC2 + EMR + disk) x hours, per role, added up."""
    workers = Role("workers", "large", 3, 0)

    estimate = cost((PRIMARY, workers), 120, PRICES)

    assert estimate.amount == pytest.approx((0.25 + 100 * 0.0001) * 2 + 3 * 0.5 * 2)
    assert "3 x large" in str(estimate)


def test_a_node_costs_a_minute_at_least() -> None:
    """EC2's minimum is one minute."""
    assert cost((PRIMARY,), 0.1, PRICES).amount == cost((PRIMARY,), 1, PRICES).amount


@given(
    count=st.integers(1, 50),
    minutes=st.floats(1, 1440),
    more=st.floats(0, 1440),
    disk=st.integers(0, 1000),
)
def test_more_of_anything_never_costs_less(
    count: int, minutes: float, more: float, disk: int
) -> None:
    """The worst case grows with nodes, time and disk."""
    least = cost((Role("r", "small", count, disk),), minutes, PRICES).amount

    assert cost((Role("r", "small", count + 1, disk),), minutes, PRICES).amount > least
    assert cost((Role("r", "small", count, disk + 1),), minutes + more, PRICES).amount > least


def test_an_unknown_type_is_refused() -> None:
    """A node without a price could cost anything."""
    with pytest.raises(UnknownPriceError, match=r"p5\.48xlarge.*large, small"):
        cost((Role("workers", "p5.48xlarge", 1, 0),), 60, PRICES)


def test_old_prices_are_refused() -> None:
    """A table is trusted up to its age limit, on the day itself too."""
    limit = PRICES.as_of + timedelta(days=30)

    check_age(PRICES, limit, 30)
    with pytest.raises(OldPricesError, match="2026-01-01"):
        check_age(PRICES, limit + timedelta(days=1), 30)


def test_a_cap_is_refused_with_its_arithmetic() -> None:
    """Who set the cap sees what would exceed it."""
    estimate = cost((PRIMARY,), 600, PRICES)

    check_cap(estimate, 2.61)
    with pytest.raises(CostCapError, match=r"1 x small.*\n= 2\.60 USD"):
        check_cap(estimate, 2.59)


@pytest.mark.parametrize("region", sorted(EU_REGIONS))
def test_every_region_has_prices(region: str) -> None:
    """A region that settings accept can be priced, with a type that is plausible."""
    prices = read_prices(region)

    assert 0.15 < prices.price("m5.xlarge").ec2 < 0.3
    assert prices.gp3 > 0


def test_the_default_cluster_can_be_priced() -> None:
    """The types that settings default to are in the table of the default region."""
    settings = Settings()
    prices = read_prices(settings.region)

    assert prices.price(settings.primary_instance_type).vcpus == 4
    assert prices.price(settings.worker_instance_type).vcpus == 8
