"""What very many images would cost and weigh, by the package's own sizing, prices and file sizes.

    make cost-tables

Nothing is measured here: the speed is the one that a lake without history assumes
(`fruits.cluster_sizing`). The tables are written into docs/review.md, which a test compares.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fruits.cluster_sizing import (
    OTHER_SECONDS,
    START_SECONDS,
    Load,
    Sizing,
    Speed,
    choose_size,
)
from fruits.clusters import NODE_DISK_GB, cluster_roles
from fruits.costs import HOURS_PER_MONTH, PriceTable, read_prices, worst_case
from fruits.settings import Settings
from fruits_jobs.ranges import rows_per_file

PAGE = Path(__file__).resolve().parents[1] / "docs" / "review.md"
BLOCK = r"(?<=<!-- {} -->\n).*?(?=<!-- end -->)"
IMAGES = (10_000, 1_000_000, 100_000_000)
# The mean of Fruits-360, and a photograph of a telephone.
SIZES = {"6 KB": 6_000, "2 MB": 2_000_000}
LARGE_MACHINE = "c6i.8xlarge"
COSTS = (
    *("images", "each", "batches", "within the defaults", "workers", "a batch takes", "and costs"),
    *("at most", "all batches", f"one {LARGE_MACHINE} takes", "and costs"),
)
SIZE = ("images", "features", "their files", "statistics", "requests to list them, at least")
FEATURES = 1280  # of MobileNetV2
OTHER_BYTES = 200  # of a row, about
KEYS_PER_PAGE = 1000  # of ListObjectsV2


@dataclass(frozen=True)
class Case:
    """So many *images* of *size* bytes, called *name*, in batches as the settings allow."""

    images: int
    name: str
    size: int

    def batches(self, settings: Settings) -> int:
        """Return how many runs it takes."""
        return math.ceil(self.images / settings.max_images_per_run)

    def load(self, settings: Settings) -> Load:
        """Return what the first batch has to do."""
        images = min(self.images, settings.max_images_per_run)
        return Load(images, images * self.size)


def cost_table() -> str:
    """Return as Markdown what it costs to featurize so many images."""
    return _table(COSTS, [_costs(Case(n, *size)) for size in SIZES.items() for n in IMAGES])


def size_table() -> str:
    """Return as Markdown what so many images weigh in the lake."""
    return _table(SIZE, [_size(images) for images in IMAGES])


def _costs(case: Case) -> list[str]:
    usual = Settings.model_construct()
    # As many as a setting allows, and no cap of money: what is cheapest within two hours?
    roomy = usual.model_copy(update={"workers": 50, "cap_money": math.inf})
    prices, load, batches = read_prices(usual.region), case.load(usual), case.batches(usual)
    fits = choose_size(load, Speed(), usual, prices).fits
    size = choose_size(load, Speed(), roomy, prices)
    seconds, alone = _one_machine(case, prices)
    return [
        f"{case.images:,}",
        case.name,
        f"{batches}",
        "yes" if fits else "no",
        f"{size.workers}",
        _time(START_SECONDS + size.seconds + OTHER_SECONDS),
        f"{size.amount:.2f}",
        f"{_promise(size, usual, prices):.2f}",
        f"{batches * size.amount:,.2f}",
        _time(seconds),
        f"{alone:,.2f}",
    ]


def _size(images: int) -> list[str]:
    rows = rows_per_file(images, FEATURES)
    files = math.ceil(images / rows)
    # Files of no more rows than features have no entry (docs/decisions/0008).
    entries = files if rows > FEATURES else 0
    return [
        f"{images:,}",
        _gigabytes(images * (4 * FEATURES + OTHER_BYTES)),
        f"{files:,}",
        _gigabytes(entries * 4 * FEATURES * (FEATURES + 1)),
        f"{math.ceil(images / KEYS_PER_PAGE):,}",
    ]


def _promise(size: Sizing, settings: Settings, prices: PriceTable) -> float:
    roles = cluster_roles(settings.model_copy(update={"workers": size.workers}))
    return worst_case(roles, settings.cap_minutes, prices).amount


def _one_machine(case: Case, prices: PriceTable) -> tuple[float, float]:
    """Return seconds and USD of one large instance without EMR that takes all images in one go."""
    price = prices.price(LARGE_MACHINE)
    load = Load(case.images, case.images * case.size)
    seconds = Speed().seconds(load, price.vcpus)
    hourly = price.ec2 + NODE_DISK_GB * prices.gp3 / HOURS_PER_MONTH
    return seconds, hourly * seconds / 3600


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["--:" for _ in head], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def written(page: str) -> str:
    """Return *page* with the tables of today in the places that name them."""
    for name, table in (("costs", cost_table()), ("sizes", size_table())):
        page = re.sub(BLOCK.format(name), table, page, count=1, flags=re.DOTALL)
    return page


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(written(PAGE.read_text()))
    print(f"{PAGE}: prices of {read_prices(Settings.model_construct().region).as_of}")


if __name__ == "__main__":
    main()
