"""Costs: the worst case is what a cluster can really cost, and what cannot be priced is refused."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fruits.costs import (
    MARGIN,
    CostCapError,
    OldPricesError,
    Price,
    PriceTable,
    Role,
    UnknownPriceError,
    Usage,
    age_warning,
    check_age,
    check_cap,
    cost,
    read_prices,
    spent,
    worst_case,
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


def test_two_months_before_its_end_a_table_is_warned_of():
    """Time enough to refresh it, before a night without a cluster."""
    last = PRICES.as_of + timedelta(days=730)

    assert age_warning(PRICES, last - timedelta(days=61), 730) is None
    assert f"after {last} no cluster" in str(age_warning(PRICES, last - timedelta(days=60), 730))


def test_a_promise_covers_the_time_until_the_watchdog_has_ended_it() -> None:
    """A cluster may live past its cap until the watchdog comes: the worst case has that in it."""
    promise = worst_case((PRIMARY,), 60, PRICES)

    assert MARGIN >= 10
    assert promise.amount == cost((PRIMARY,), 60 + MARGIN, PRICES).amount


def test_a_cap_is_refused_with_its_arithmetic() -> None:
    """Who set the cap sees in one line what would exceed it, and what to change."""
    promise = worst_case((PRIMARY,), 600 - MARGIN, PRICES)

    check_cap(promise, 2.61)
    with pytest.raises(CostCapError) as refused:
        check_cap(promise, 2.59)

    assert str(refused.value) == (
        "This cluster could cost 2.60 USD in its 585 minutes and 15 more until the watchdog has "
        "ended it, above FRUITS_CAP_MONEY (2.59): primary: 1 x small x (0.2 EC2 + 0.05 EMR + "
        "0.0100 for 100 GB) USD/h x 10.00 h = 2.60 = 2.60 USD. Take fewer or smaller workers or "
        "fewer minutes, or raise the cap."
    )


def test_what_was_spent_counts_each_instance_for_as_long_as_it_lived() -> None:
    """Each node has its own lifetime, type and disk, and a minute at the least."""
    lived = (Usage("small", 3600, 100), Usage("large", 1800, 0), Usage("large", 5, 0))

    assert spent(lived, PRICES) == pytest.approx(0.26 + 0.25 + 0.5 / 60)
    assert spent((), PRICES) == 0


@given(st.integers(1, 20), st.integers(1, 1440), st.floats(0, 1))
def test_what_was_spent_is_never_above_the_promise(nodes: int, cap: int, share: float) -> None:
    """A cluster that ends within its cap and the margin keeps its promise."""
    seconds = max(60, (cap + MARGIN) * 60 * share)
    lived = [Usage("small", seconds, 100)] + [Usage("large", seconds, 10)] * nodes

    promise = worst_case((PRIMARY, Role("workers", "large", nodes, 10)), cap, PRICES)

    assert spent(lived, PRICES) <= promise.amount + 1e-9


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
