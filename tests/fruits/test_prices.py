"""Prices: refreshed from what AWS's API answers, as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from fruits.costs import TABLE, read_prices
from fruits.prices import main, render
from tests.fruits.price_list import ec2, emr, gp3, serving

PARIS, DUBLIN = "eu-west-3", "eu-west-1"
OLD = {"vcpus": 4, "memory_gib": 16, "ec2": 0.2, "emr": 0.04}
NEW = [
    *(ec2(region, "m5.xlarge", 0.224) for region in (PARIS, DUBLIN)),
    *(emr(region, "m5.xlarge", 0.048) for region in (PARIS, DUBLIN)),
    gp3(PARIS, 0.0928),
    gp3(DUBLIN, 0.088),
    # What the filters have to leave out: other systems, software, markets and places.
    ec2(PARIS, "m5.xlarge", 0.408, operatingSystem="Windows"),
    ec2(PARIS, "m5.xlarge", 0.7, preInstalledSw="SQL Std"),
    ec2(PARIS, "m5.xlarge", 0.25, tenancy="Dedicated"),
    ec2(PARIS, "m5.xlarge", 0.224, capacitystatus="UnusedCapacityReservation"),
    ec2(PARIS, "m5.xlarge", 9.0, marketoption="CapacityBlock"),
    ec2(PARIS, "m5.xlarge", 0.3, locationType="AWS Local Zone"),
    ec2("us-east-1", "m5.xlarge", 0.192),
    emr(PARIS, "m5.xlarge", 0.06, softwareType="MapR M3"),
    gp3(PARIS, 0.1, volumeApiName="gp2"),
]

Refresh = Callable[..., int]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write an old table of two regions and return its path."""
    instances = {"m5.xlarge": OLD}
    content = {
        "as_of": "2020-01-01",
        "currency": "USD",
        "source": "memory",
        "unit": "per hour; gp3 per GB and month",
        "regions": {region: {"gp3": 0.08, "instances": instances} for region in (DUBLIN, PARIS)},
    }
    path = tmp_path / "prices.json"
    path.write_text(render(content))
    return path


@pytest.fixture
def refresh(table: Path, monkeypatch: pytest.MonkeyPatch) -> Refresh:
    """Return the command, run against an API that sells the products given to it."""

    def run(products: list[dict[str, Any]] | None, *arguments: str) -> int:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        with serving(products) as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", endpoint)
            return main(list(arguments), table)

    return run


def test_the_table_gets_the_prices_of_today(
    refresh: Refresh, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each price is that of the one right product; date and source are kept; changes are shown."""
    code = refresh(NEW)

    prices = read_prices(PARIS, table)
    assert code == 0
    assert (prices.price("m5.xlarge").ec2, prices.price("m5.xlarge").emr) == (0.224, 0.048)
    assert (prices.gp3, read_prices(DUBLIN, table).gp3) == (0.0928, 0.088)
    assert abs(prices.as_of - datetime.now(UTC).date()).days <= 1
    assert "Price List API" in prices.source
    assert "eu-west-3 m5.xlarge ec2: 0.2 -> 0.224" in capsys.readouterr().out


def test_a_check_writes_nothing(refresh: Refresh, table: Path) -> None:
    """--check says by its exit code whether the table is up to date, and leaves it alone."""
    before = table.read_text()

    outdated = refresh(NEW, "--check")
    unchanged = table.read_text() == before
    refresh(NEW)

    assert (outdated, unchanged) == (1, True)
    assert refresh(NEW, "--check") == 0


def test_a_named_type_is_added_where_it_is_sold(refresh: Refresh, table: Path) -> None:
    """A further type comes into the regions that have it, with its size."""
    more = [
        ec2(PARIS, "r6i.4xlarge", 1.2, vcpu="16", memory="1,024 GiB"),
        emr(PARIS, "r6i.4xlarge", 0.25),
    ]

    code = refresh([*NEW, *more], "r6i.4xlarge")

    added = read_prices(PARIS, table).price("r6i.4xlarge")
    assert code == 0
    assert (added.vcpus, added.memory_gib, added.ec2, added.emr) == (16, 1024, 1.2, 0.25)
    assert "r6i.4xlarge" not in read_prices(DUBLIN, table).instances


@pytest.mark.parametrize(
    ("products", "says"),
    [
        (NEW[1:], "no price of EC2's m5.xlarge in eu-west-3"),
        (NEW[:3] + NEW[4:], "no price of EMR's m5.xlarge in eu-west-1"),
        (NEW[:4] + NEW[5:], "no price of EBS's gp3 in eu-west-3"),
        ([*NEW, ec2(DUBLIN, "m5.xlarge", 0.3)], "2 prices of EC2's m5.xlarge in eu-west-1"),
        ([ec2(PARIS, "m5.xlarge", 0.0), *NEW[1:]], "no price of EC2's m5.xlarge in eu-west-3"),
    ],
)
def test_what_is_missing_or_ambiguous_is_named_and_nothing_written(
    refresh: Refresh,
    table: Path,
    capsys: pytest.CaptureFixture[str],
    products: list[dict[str, Any]],
    says: str,
) -> None:
    """A price that AWS does not name exactly once stops the refresh, with type and region."""
    before = table.read_text()

    code = refresh(products)

    error = capsys.readouterr().err
    assert (code, table.read_text()) == (1, before)
    assert says in error
    assert error.count("\n") == 1


def test_a_type_that_is_sold_nowhere_is_named(
    refresh: Refresh, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped name fails."""
    assert refresh(NEW, "m5.huge") == 1
    assert "m5.huge in any of eu-west-1, eu-west-3" in capsys.readouterr().err


def test_a_product_that_is_listed_twice_has_one_price(refresh: Refresh, table: Path) -> None:
    """Two products of the same price leave no doubt."""
    assert refresh([*NEW, ec2(PARIS, "m5.xlarge", 0.224, operation="RunInstances:0001")]) == 0
    assert read_prices(PARIS, table).price("m5.xlarge").ec2 == 0.224


def test_an_api_that_refuses_leaves_the_table(
    refresh: Refresh, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who may not ask for prices is told so in a line."""
    before = table.read_text()

    code = refresh(None)

    error = capsys.readouterr().err
    assert (code, table.read_text()) == (1, before)
    assert "AccessDeniedException" in error
    assert error.count("\n") == 1


def test_the_table_that_is_shipped_is_as_a_refresh_writes_it() -> None:
    """A refresh changes the lines of prices that changed, and no others."""
    text = TABLE.read_text()

    assert render(json.loads(text)) == text
    assert read_prices(PARIS).as_of >= date(2025, 1, 1)
