"""How many workers a batch gets: few for a small day, what is cheapest for a large one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fruits.cluster_sizing import (
    ASSUMED_RATE,
    BYTES_PER_INFERENCE,
    CAP_SHARE,
    COLUMNS,
    OTHER_SECONDS,
    START_SECONDS,
    Load,
    Speed,
    choose_size,
    comparable,
    fit_speed,
)
from fruits.clusters import cluster_roles
from fruits.costs import cost, read_prices, worst_case
from fruits.settings import Settings

PRICES = read_prices("eu-west-3")
LARGE = Settings(workers=20, cap_money=100, month_cap_money=1000)


def run(seconds: float, images: int, workers: int = 1, **more: Any) -> dict[str, Any]:
    """Return a row of `runs` as sizing reads it."""
    return {
        "engine": "litert",
        "worker_instance_type": "c6i.2xlarge",
        "workers": workers,
        "worker_vcpus": 8,
        "added": images,
        "added_bytes": 0,
        "featurize_seconds": seconds,
        "feature_model": "MobileNetV2-224-bilinear-v2-715706dbcc4b",
    } | more


def test_a_small_day_gets_one_worker() -> None:
    """A thousand thumbnails on twenty workers would cost twenty starts of a node."""
    sizing = choose_size(Load(1000, 6_000_000), Speed(), LARGE, PRICES)

    assert (sizing.workers, sizing.fits) == (1, True)
    assert sizing.seconds == pytest.approx(30 + (1000 + 6_000_000 / BYTES_PER_INFERENCE) / 400)


def test_nothing_to_featurize_gets_one_worker() -> None:
    """A run that only reduces has a cluster, and no featurize step to wait for."""
    sizing = choose_size(Load(0, 0), Speed(), LARGE, PRICES)

    assert (sizing.workers, sizing.seconds) == (1, 0)


@given(images=st.integers(1, 20_000_000), most=st.integers(1, 20), rate=st.floats(5, 500))
def test_no_other_size_in_time_is_cheaper(images: int, most: int, rate: float) -> None:
    """The choice is what trying every number of workers finds."""
    settings, speed = LARGE.model_copy(update={"workers": most}), Speed(rate)
    amounts = {}
    for count in range(1, most + 1):
        life = START_SECONDS + 30 + images / (rate * 8 * count) + OTHER_SECONDS
        if life <= CAP_SHARE * settings.cap_minutes * 60:
            roles = cluster_roles(settings.model_copy(update={"workers": count}))
            amounts[count] = cost(roles, life / 60, PRICES).amount

    sizing = choose_size(Load(images, 0), speed, settings, PRICES)

    assert sizing.fits == bool(amounts)
    assert sizing.workers in amounts or (not amounts and sizing.workers == most)
    assert not amounts or sizing.amount == pytest.approx(min(amounts.values()))


def test_large_photos_need_more_workers_than_thumbnails() -> None:
    """What a manifest weighs counts, not only how many images it has."""
    thumbnails, photos = (
        choose_size(Load(1_000_000, size), Speed(), LARGE, PRICES)
        for size in (6_000 * 1_000_000, 5_000_000 * 1_000_000)
    )

    assert photos.workers > thumbnails.workers


def test_the_cap_in_money_holds_the_workers_down() -> None:
    """A size whose worst case may not be promised is never chosen."""
    tight = Settings(workers=20, cap_money=5)
    roles = cluster_roles(tight.model_copy(update={"workers": 4}))
    assert worst_case(roles, tight.cap_minutes, PRICES).amount > 5

    sizing = choose_size(Load(50_000_000, 0), Speed(), tight, PRICES)

    assert (sizing.workers, sizing.fits) == (3, False)


def test_without_batches_the_speed_is_assumed() -> None:
    """A first batch is sized too."""
    speed = fit_speed([])

    assert speed.rate == pytest.approx(ASSUMED_RATE)
    assert (round(speed.fixed_seconds), speed.runs) == (30, 0)


def test_the_fit_improves_with_every_batch() -> None:
    """A few batches of several sizes tell rate and fixed time within a tenth."""
    truth = Speed(rate=90, fixed_seconds=45)
    sizes = [500, 2_000, 30_000, 100_000, 8_000, 60_000]
    runs = [run(truth.seconds(Load(images, 0), 16), images, workers=2) for images in sizes]

    errors = [abs(fit_speed(runs[:count]).rate / truth.rate - 1) for count in (0, 3, 6)]

    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1
    assert fit_speed(runs).fixed_seconds == pytest.approx(45, rel=0.1)
    assert fit_speed(runs).runs == 6


@given(
    runs=st.lists(
        st.builds(
            run,
            seconds=st.floats(0.1, 1e5),
            images=st.integers(1, 10**7),
            workers=st.integers(1, 50),
        ),
        max_size=20,
    )
)
def test_no_measurement_makes_an_absurd_speed(runs: list[dict[str, Any]]) -> None:
    """However odd the batches were, the next one has a finite, positive estimate."""
    speed = fit_speed(runs)

    assert 0 < speed.rate <= 100 * ASSUMED_RATE
    assert speed.fixed_seconds >= 1


def test_only_like_batches_are_compared() -> None:
    """Another engine, worker type or network says nothing of this one; failed ones neither."""
    good = run(60, 10_000)
    others = [
        run(60, 10_000, engine="tensorflow"),
        run(60, 10_000, worker_instance_type="m6i.xlarge"),
        run(60, 10_000, feature_model="ResNet50-224-bilinear-v2-0123456789ab"),
        dict.fromkeys(COLUMNS),
    ]
    failed = run(0, 10_000) | {"featurize_seconds": None}

    chosen = comparable([*others, good, failed], Settings(), good["feature_model"])

    assert chosen == [good, failed]
    assert fit_speed(chosen).runs == 1
