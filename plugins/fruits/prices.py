"""Refreshes the price table from AWS's Price List API, so that caps can be trusted.

    python -m fruits.prices [--check] [TYPE ...]

looks up every instance type that the table has in each region, and each further TYPE wherever AWS
offers it, shows what changed, and writes the table. All of it is written or, if one price is
missing or ambiguous, nothing. It needs credentials that may call pricing:GetProducts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fruits.costs import TABLE, Price
from fruits.errors import FruitsError
from fruits.lifecycle import PATIENT
from fruits.objects import answer_time

# The API's one endpoint in the EU; it knows the prices of all regions.
ENDPOINT_REGION = "eu-central-1"
CURRENCY = "USD"
SOURCE = "AWS Price List API: EC2 on demand (Linux, shared tenancy), EMR's fee, EBS gp3 storage"

Table = dict[str, Any]


class PriceError(FruitsError):
    """AWS does not name exactly one price; fields: region, product, prices (USD)."""

    region: str
    product: str
    prices: tuple[float, ...]


class NoPriceError(PriceError):
    """AWS names no price at all: it does not sell this there."""


@dataclass(frozen=True)
class Product:
    """What GetProducts says of one product: its attributes, and its on-demand prices above 0."""

    attributes: Mapping[str, str]
    prices: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Product:
        """Return the product of one string of a PriceList."""
        content = json.loads(text)
        rates = [
            float(dimension["pricePerUnit"].get(CURRENCY, 0))
            for term in content["terms"].get("OnDemand", {}).values()
            for dimension in term["priceDimensions"].values()
        ]
        return cls(content["product"]["attributes"], tuple(rate for rate in rates if rate > 0))


class PriceList:
    """AWS's Price List API, asked for one product of one region at a time."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.answered_at: datetime | None = None

    def instance(self, region: str, instance_type: str) -> Price:
        """Return what the type costs in the region per hour; NoPriceError if it is not sold."""
        ec2, rate = self._find(
            region,
            f"EC2's {instance_type}",
            "AmazonEC2",
            instanceType=instance_type,
            operatingSystem="Linux",
            tenancy="Shared",
            preInstalledSw="NA",
            capacitystatus="Used",
            marketoption="OnDemand",
        )
        _, fee = self._find(
            region,
            f"EMR's {instance_type}",
            "ElasticMapReduce",
            instanceType=instance_type,
            productFamily="Elastic Map Reduce Instance",
            softwareType="EMR",
        )
        memory = ec2["memory"].removesuffix(" GiB").replace(",", "")
        return Price(int(ec2["vcpu"]), round(float(memory)), rate, fee)

    def gp3(self, region: str) -> float:
        """Return what gp3 storage costs in the region per GB and month."""
        _, price = self._find(
            region, "EBS's gp3", "AmazonEC2", productFamily="Storage", volumeApiName="gp3"
        )
        return price

    def _find(
        self, region: str, product: str, service: str, **attributes: str
    ) -> tuple[Mapping[str, str], float]:
        """Return the attributes and the price of the one product that has *attributes*."""
        wanted = attributes | {"regionCode": region, "locationType": "AWS Region"}
        found = [Product.parse(text) for text in self._products(service, wanted)]
        # The same product may be listed twice; as long as the price is one, it is known.
        prices = tuple(sorted({price for one in found for price in one.prices}))
        facts = {"region": region, "product": product, "prices": prices}
        if not prices:
            raise NoPriceError(
                f"AWS names no price of {product} in {region}.",
                "Remove that type from the region in prices.json if AWS no longer sells it there.",
                **facts,
            )
        if len(prices) > 1:
            raise PriceError(
                f"AWS names {len(prices)} prices of {product} in {region}: "
                f"{', '.join(f'{price:g}' for price in prices)}.",
                "See which is right and write it into prices.json by hand, with its date.",
                **facts,
            )
        return next(one.attributes for one in found if one.prices), prices[0]

    def _products(self, service: str, attributes: Mapping[str, str]) -> Iterator[str]:
        filters = [
            {"Type": "TERM_MATCH", "Field": name, "Value": value}
            for name, value in attributes.items()
        ]
        paginator = self._client.get_paginator("get_products")
        for page in paginator.paginate(ServiceCode=service, Filters=filters):
            self.answered_at = answer_time(page)
            yield from page["PriceList"]


def refreshed(table: Table, price_list: PriceList, more: Sequence[str] = ()) -> Table:
    """Return *table* with the prices of today, and with the types *more* where AWS offers them.

    Raises PriceError for a type that the table has and AWS has not, or for one of *more* that no
    region has.
    """
    regions: dict[str, Any] = {}
    for region, old in table["regions"].items():
        prices = {name: price_list.instance(region, name) for name in old["instances"]}
        for name in more:
            try:
                prices[name] = price_list.instance(region, name)
            except NoPriceError:
                continue
        instances = {name: asdict(prices[name]) for name in sorted(prices, key=_family_and_size)}
        regions[region] = {"gp3": price_list.gp3(region), "instances": instances}
    for name in more:
        if not any(name in region["instances"] for region in regions.values()):
            raise NoPriceError(
                f"AWS names no price of {name} in any of {', '.join(regions)}.",
                "Check its spelling.",
                region=", ".join(regions),
                product=name,
                prices=(),
            )
    today = price_list.answered_at.date().isoformat() if price_list.answered_at else table["as_of"]
    known = {"as_of": today, "currency": CURRENCY, "source": SOURCE}
    return table | known | {"regions": regions}


def changes(old: Table, new: Table) -> list[str]:
    """Return a line for each price that is new, gone or different."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        f"{name}: {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def render(table: Table) -> str:
    """Return the table as JSON with a line for each instance type, so that a diff can be read."""
    text = json.dumps(table | {"regions": {}}, indent=1, ensure_ascii=False)
    regions = ",\n".join(_render_region(*item) for item in sorted(table["regions"].items()))
    return text.replace('"regions": {}', f'"regions": {{\n{regions}\n }}') + "\n"


def write(table: Table, path: Path) -> None:
    """Write the table to *path* as a whole: who reads it meanwhile sees the old one or the new."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(render(table))
    beside.replace(path)


def _render_region(region: str, prices: Mapping[str, Any]) -> str:
    instances = ",\n".join(
        f'    "{name}": {json.dumps(price)}' for name, price in prices["instances"].items()
    )
    return (
        f'  "{region}": {{\n   "gp3": {json.dumps(prices["gp3"])},\n'
        f'   "instances": {{\n{instances}\n   }}\n  }}'
    )


def _flat(table: Table) -> Iterable[tuple[str, float]]:
    for region, prices in table["regions"].items():
        yield f"{region} gp3", prices["gp3"]
        for instance_type, price in prices["instances"].items():
            for what, amount in price.items():
                yield f"{region} {instance_type} {what}", amount


def _family_and_size(instance_type: str) -> tuple[str, int, str]:
    family, _, size = instance_type.partition(".")
    return family, int("0" + "".join(filter(str.isdigit, size))), size


def main(arguments: list[str] | None = None, path: Path = TABLE) -> int:
    """Refresh the table; 0 if it is up to date now, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m fruits.prices",
        description=__doc__,
        epilog="Exit code 1: a price is not known, or with --check the table is out of date.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("types", nargs="*", metavar="TYPE", help="a further instance type to add")
    parser.add_argument("--check", action="store_true", help="show what changed, write nothing")
    options = parser.parse_args(arguments)
    old = json.loads(path.read_text())
    try:
        new = refreshed(old, PriceList(_client()), options.types)
    except (FruitsError, BotoCoreError, ClientError) as error:
        sys.stderr.write(f"{error} Nothing was written.\n")
        return 1
    different = changes(old, new)
    sys.stdout.write("".join(f"{line}\n" for line in different))
    sys.stdout.write(f"{len(different)} changes since {old['as_of']}\n")
    if options.check:
        return 1 if different else 0
    write(new, path)
    sys.stdout.write(f"{path} is of {new['as_of']} now\n")
    return 0


def _client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("pricing", region_name=ENDPOINT_REGION, config=Config(**PATIENT))


if __name__ == "__main__":
    sys.exit(main())
