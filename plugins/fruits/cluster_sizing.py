"""How many workers a batch gets: those with which its cluster is cheapest, within its caps.

More workers end sooner, but each is paid for while the cluster starts. So a small day gets one, and
what a large one gets follows from prices, the manifest, and how fast earlier batches were. So does
how large a batch may be: one that would be cancelled at its cap costs all of it and leaves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fruits.clusters import cluster_roles
from fruits.costs import cost, worst_case
from fruits.weights import backbone_of

if TYPE_CHECKING:
    from fruits.costs import PriceTable
    from fruits.settings import Settings

# Reading and decoding so many bytes takes about as long as the inference of one image.
BYTES_PER_INFERENCE = 512 * 1024
# Until batches were measured: half of what one thread of a 2021 server core does, which is a vCPU.
ASSUMED_RATE = 50.0
ASSUMED_FIXED_SECONDS = 30.0  # Spark, its Python workers and their networks start; files are closed
# Nodes, bootstrap actions and Spark until the first step, and what is done besides featurizing.
START_SECONDS, OTHER_SECONDS = 420.0, 180.0
# The share of the cap that an estimate may fill: it is an estimate.
CAP_SHARE = 0.75
RUNS_LOOKED_AT = 20
PRIOR_WEIGHT = 1 / 16  # of what is assumed, beside a measured batch
COLUMNS = (
    "engine",
    "worker_instance_type",
    "workers",
    "worker_vcpus",
    "added",
    "added_bytes",
    "featurize_seconds",
    "feature_model",
    "failed_tasks",
    "estimated_seconds",
    "cluster_seconds",
)


@dataclass(frozen=True)
class Load:
    """What a manifest asks for: *images* of together *size_bytes*."""

    images: int
    size_bytes: int

    @property
    def inferences(self) -> float:
        """The work, in inferences of one image."""
        return self.images + self.size_bytes / BYTES_PER_INFERENCE


@dataclass(frozen=True)
class Speed:
    """How fast featurize is: a fixed time (s), and inferences per vCPU and second beyond it.

    *runs* is the number of batches that it was fitted to; with 0 it is assumed. *overdue* counts
    those that did not end in time and make it lower than that.
    """

    rate: float = ASSUMED_RATE
    fixed_seconds: float = ASSUMED_FIXED_SECONDS
    runs: int = 0
    overdue: int = 0

    def seconds(self, load: Load, vcpus: int) -> float:
        """Return how long the featurize step takes on that many vCPUs, in seconds."""
        return self.fixed_seconds + load.inferences / (self.rate * vcpus)

    def inferences(self, seconds: float, vcpus: int) -> float:
        """Return the work that a step of *seconds* does; 0 or less where it does none."""
        return (seconds - self.fixed_seconds) * self.rate * vcpus


@dataclass(frozen=True)
class Room:
    """The most that ends in time: so many *inferences*, on the *workers* that the caps allow.

    0 or less where the cap is too short for any image; *least_minutes* is the cap for one.
    """

    inferences: float
    workers: int
    speed: Speed
    least_minutes: int

    @property
    def limit(self) -> float | None:
        """What a batch is cut to; None where cutting would not make it fit."""
        return self.inferences if self.inferences > 0 else None


@dataclass(frozen=True)
class Sizing:
    """The chosen *workers* of *vcpus* each, and what is expected of them.

    *seconds* is of the featurize step, *amount* the cost of the whole cluster in *currency*;
    *fits* says whether all that stays within CAP_SHARE of the cap's minutes.
    """

    workers: int
    vcpus: int
    seconds: float
    amount: float
    currency: str
    speed: Speed
    fits: bool


def fit_speed(runs: Iterable[Mapping[str, Any]], cap_minutes: float) -> Speed:
    """Return the speed that explains the featurize times of *runs*, the newest row first.

    Rows have COLUMNS; *cap_minutes* is that of the next cluster. Least squares of relative errors,
    with what is assumed weighing PRIOR_WEIGHT of a batch: one batch moves it most of the way, a few
    settle it, and batches of one size still fit. Rows of batches that did not get so far are left
    out, but for those that did not end in time.
    """
    sized = [run for run in runs if run["added"] and run["workers"]]
    measured = [run for run in sized if run["featurize_seconds"]]
    slope, fixed, prior = 1 / ASSUMED_RATE, ASSUMED_FIXED_SECONDS, math.sqrt(PRIOR_WEIGHT)
    # seconds = fixed + slope * work, each equation divided by what its seconds are.
    equations = [(prior / fixed, 0.0, prior), (0.0, prior / slope, prior)]
    for run in measured:
        work, seconds = _work(run), run["featurize_seconds"]
        equations.append((1 / seconds, work / seconds, 1.0))
    fixed, slope = _solve(equations)
    # No measurement makes starting free or a core a hundred times as fast.
    rate = 1 / max(slope, 0.01 / ASSUMED_RATE)
    lower = [limit for limit in _limits(sized, cap_minutes) if limit < rate]
    return Speed(min([rate, *lower]), max(fixed, 1.0), len(measured), len(lower))


def _limits(runs: Iterable[Mapping[str, Any]], cap_minutes: float) -> Iterator[float]:
    """Yield the rates that batches which did not end in time were too slow for; newest first.

    Each holds until a later batch was faster: what a hanging step says of the network is not true.
    Until a later batch was measured half of it is assumed, so that a few such nights find what
    ends in time, however wrong the estimate was.
    """
    fastest = 0.0
    for run in runs:
        if run["featurize_seconds"]:
            fastest = max(fastest, _work(run) / run["featurize_seconds"])
        elif seconds := _seconds_in_vain(run, cap_minutes):
            limit = _work(run) / seconds
            if limit > fastest:
                yield limit if fastest else limit / 2


def _seconds_in_vain(run: Mapping[str, Any], cap_minutes: float) -> float:
    """Return how long featurize was at work in vain; 0 unless it was expected to end by then.

    A cluster that did not live for most of a cap ended for another reason. Of a run that was
    cleared it is the time of all its clusters: then the rate is taken for lower than need be, until
    the next batch is measured.
    """
    failed = "featurize" in (run["failed_tasks"] or "").split(", ")
    seconds: float = (run["cluster_seconds"] or 0.0) - START_SECONDS
    is_late = seconds > (run["estimated_seconds"] or math.inf)
    is_old = (run["cluster_seconds"] or 0.0) >= CAP_SHARE * cap_minutes * 60
    return seconds if failed and is_late and is_old else 0.0


def _work(run: Mapping[str, Any]) -> float:
    """Return the inferences for each vCPU."""
    load = Load(run["added"], run["added_bytes"] or 0)
    vcpus: int = run["workers"] * run["worker_vcpus"]
    return load.inferences / vcpus


def _solve(equations: Iterable[tuple[float, float, float]]) -> tuple[float, float]:
    """Return x, y that make a*x + b*y = c true for all (a, b, c) as nearly as can be."""
    aa = ab = bb = ac = bc = 0.0
    for a, b, c in equations:
        aa, ab, bb, ac, bc = aa + a * a, ab + a * b, bb + b * b, ac + a * c, bc + b * c
    determinant = aa * bb - ab * ab
    return (ac * bb - bc * ab) / determinant, (bc * aa - ac * ab) / determinant


def choose_size(load: Load, speed: Speed, settings: Settings, prices: PriceTable) -> Sizing:
    """Return the cheapest size for *load*, of at most ``settings.workers`` workers.

    Sizes whose worst case is above ``settings.cap_money`` are out of question (where all are, the
    smallest is returned, and refused when it is reserved), and those that would not end in time
    are taken only if none does: then the largest.
    """
    sizes = [_sizing(load, speed, count, settings, prices) for count in _counts(settings, prices)]
    in_time = [size for size in sizes if size.fits]
    return min(in_time, key=lambda size: (size.amount, size.workers)) if in_time else sizes[-1]


def room(speed: Speed, settings: Settings, prices: PriceTable) -> Room:
    """Return the most that `choose_size` finds a size for that ends in time."""
    workers = _counts(settings, prices)[-1]
    vcpus = prices.price(settings.worker_instance_type).vcpus
    inferences = speed.inferences(_step_seconds(settings), workers * vcpus)
    least = (START_SECONDS + speed.fixed_seconds + OTHER_SECONDS) / (CAP_SHARE * 60)
    return Room(inferences, workers, speed, math.floor(least) + 1)


def _step_seconds(settings: Settings) -> float:
    """Return how long featurize may take for the cluster to end in time."""
    return CAP_SHARE * settings.cap_minutes * 60 - START_SECONDS - OTHER_SECONDS


def _counts(settings: Settings, prices: PriceTable) -> list[int]:
    """Return the numbers of workers that the cap in money allows."""
    return [1] + [
        count
        for count in range(2, settings.workers + 1)
        if worst_case(_roles(settings, count), settings.cap_minutes, prices).amount
        <= settings.cap_money
    ]


def _sizing(load: Load, speed: Speed, count: int, settings: Settings, prices: PriceTable) -> Sizing:
    vcpus = prices.price(settings.worker_instance_type).vcpus
    seconds = speed.seconds(load, count * vcpus) if load.images else 0.0
    life = START_SECONDS + seconds + OTHER_SECONDS
    estimate = cost(_roles(settings, count), life / 60, prices)
    left = _step_seconds(settings)
    # The very sum of `room`: what is cut to fit does, to the last digit.
    fits = load.inferences <= speed.inferences(left, count * vcpus) if load.images else left >= 0
    return Sizing(count, vcpus, seconds, estimate.amount, estimate.currency, speed, fits)


def _roles(settings: Settings, count: int) -> Any:
    return cluster_roles(settings.model_copy(update={"workers": count}))


def comparable(
    runs: Iterable[Mapping[str, Any]], settings: Settings, feature_model: str
) -> list[Mapping[str, Any]]:
    """Return the newest of *runs* that say how fast the next is, which makes *feature_model*.

    They featurized something, and are of its backbone, engine and worker type; *runs* come newest
    first.
    """
    backbone = backbone_of(feature_model)
    wanted = [
        run
        for run in runs
        if run["added"]
        and run["engine"] == settings.engine.value
        and run["worker_instance_type"] == settings.worker_instance_type
        and backbone_of(run["feature_model"] or "") == backbone
    ]
    return wanted[:RUNS_LOOKED_AT]
