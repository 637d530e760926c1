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
    RUNS_LOOKED_AT,
    START_SECONDS,
    Load,
    Speed,
    choose_size,
    comparable,
    fit_speed,
    room,
)
from fruits.clusters import cluster_roles
from fruits.costs import cost, read_prices, worst_case
from fruits.settings import Settings

PRICES = read_prices("eu-west-3")
LARGE = Settings(workers=20, cap_money=100, month_cap_money=1000)
CAP = LARGE.cap_minutes


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
        "failed_tasks": "",
        "estimated_seconds": 30.0,
        "cluster_seconds": START_SECONDS + seconds + OTHER_SECONDS,
    } | more


def overdue(images: int, estimate: float = 4770, life: float = 7200) -> dict[str, Any]:
    """Return the row of a batch that was cancelled when its cluster had lived so long."""
    failed = {"featurize_seconds": None, "failed_tasks": "featurize"}
    more = {"estimated_seconds": estimate, "cluster_seconds": life}
    return run(0, images) | failed | more


def night(runs: list[dict[str, Any]], truth: Speed) -> dict[str, Any]:
    """Return the row of a night's batch of a backlog without an end, after those of *runs*."""
    settings = Settings()
    speed = fit_speed(runs, CAP)
    images = max(1, int(room(speed, settings, PRICES).limit or 0))
    sizing = choose_size(Load(images, 0), speed, settings, PRICES)
    seconds = truth.seconds(Load(images, 0), sizing.workers * sizing.vcpus)
    known = {"workers": sizing.workers, "estimated_seconds": sizing.seconds}
    if START_SECONDS + seconds <= settings.cap_minutes * 60:
        return run(seconds, images) | known
    return overdue(images) | known


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


@given(
    speed=st.builds(Speed, st.floats(1e-6, 5000), st.floats(1, 10_000)),
    minutes=st.integers(1, 1440),
    most=st.integers(1, 20),
    share=st.floats(0, 2),
    size=st.integers(0, 10**9),
)
def test_what_is_cut_to_the_room_fits(
    speed: Speed, minutes: int, most: int, share: float, size: int
) -> None:
    """A batch ends in time on some size if and only if its work is within the room."""
    settings = LARGE.model_copy(update={"cap_minutes": minutes, "workers": most})
    limit = room(speed, settings, PRICES).limit
    images = max(1, int(share * (limit or 0) / Load(1, size).inferences))
    load = Load(images, images * size)

    sizing = choose_size(load, speed, settings, PRICES)

    assert sizing.fits == (limit is not None and load.inferences <= limit)


def test_a_million_photographs_are_more_than_two_workers_do_in_two_hours() -> None:
    """With the defaults they would live 111 of 120 minutes: too near for an estimate."""
    photographs = Load(1_000_000, 2_000_000 * 1_000_000)
    most = room(Speed(), Settings(), PRICES)

    assert not choose_size(photographs, Speed(), Settings(), PRICES).fits
    assert most.workers == 2
    assert most.limit == pytest.approx((CAP_SHARE * 7200 - 630) * 50 * 16)


def test_a_cap_of_the_least_minutes_has_room_for_an_image() -> None:
    """One minute less, and no cluster has time for any: then there is nothing to cut to."""
    least = room(Speed(), LARGE, PRICES).least_minutes
    caps = (LARGE.model_copy(update={"cap_minutes": least - less}) for less in (0, 1))

    enough, too_short = (room(Speed(), settings, PRICES).limit for settings in caps)

    assert enough
    assert enough > 1
    assert too_short is None


def test_without_batches_the_speed_is_assumed() -> None:
    """A first batch is sized too."""
    speed = fit_speed([], CAP)

    assert speed.rate == pytest.approx(ASSUMED_RATE)
    assert (round(speed.fixed_seconds), speed.runs) == (30, 0)


def test_the_fit_improves_with_every_batch() -> None:
    """A few batches of several sizes tell rate and fixed time within a tenth."""
    truth = Speed(rate=90, fixed_seconds=45)
    sizes = [500, 2_000, 30_000, 100_000, 8_000, 60_000]
    runs = [run(truth.seconds(Load(images, 0), 16), images, workers=2) for images in sizes]

    errors = [abs(fit_speed(runs[:count], CAP).rate / truth.rate - 1) for count in (0, 3, 6)]

    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1
    assert fit_speed(runs, CAP).fixed_seconds == pytest.approx(45, rel=0.1)
    assert fit_speed(runs, CAP).runs == 6


@pytest.mark.parametrize("slower", [1, 1.5, 2, 3, 3.5, 5, 10, 30, 100])
def test_a_wrong_estimate_costs_a_few_nights(slower: float) -> None:
    """However slow the network is, a backlog comes to go down, by as much as ends in time."""
    truth, runs = Speed(ASSUMED_RATE / slower), list[dict[str, Any]]()
    for _ in range(20):
        runs.insert(0, night(runs, truth))

    lost = [row for row in runs if not row["featurize_seconds"]]
    assert len(lost) <= 6
    assert all(row["featurize_seconds"] for row in runs[:10])
    assert runs[0]["featurize_seconds"] > 7200 / 4


@given(images=st.integers(1, 10**7), life=st.floats(5400, 86_400))
def test_after_a_batch_that_did_not_end_the_next_is_half(images: int, life: float) -> None:
    """The next would take the same workers at most half of the time that was too short."""
    vain = overdue(images, estimate=4770, life=life)

    speed = fit_speed([vain], CAP)

    assert speed.inferences(life - START_SECONDS, 8) <= images / 2
    assert speed.rate <= ASSUMED_RATE


def test_a_step_that_hung_is_forgotten_when_one_did_not() -> None:
    """Ten images that took two hours say nothing once seven took half a minute."""
    hung = overdue(10, estimate=31)

    assert fit_speed([hung], CAP).rate < 0.001
    assert fit_speed([run(31, 7), hung], CAP).rate == pytest.approx(ASSUMED_RATE, rel=0.1)


def test_a_slow_batch_is_remembered_until_a_later_one_was_faster() -> None:
    """A small batch that ended does not bring back the estimate with which a large one did not."""
    slow, small, fast = overdue(1_900_000), run(50, 1_000), run(4000, 1_500_000)

    remembered = fit_speed([small, slow], CAP)

    assert remembered.rate == pytest.approx(1_900_000 / 8 / 6780)
    assert (remembered.runs, remembered.overdue) == (1, 1)
    assert fit_speed([fast, small, slow], CAP).overdue == 0


@pytest.mark.parametrize(
    "other",
    [
        {"cluster_seconds": 900.0},
        {"cluster_seconds": 900.0, "estimated_seconds": 30.1},
        {"failed_tasks": "commit_features"},
        {"failed_tasks": "featurize_again"},
        {"estimated_seconds": None},
        {"cluster_seconds": None},
    ],
)
def test_other_failures_do_not_make_it_slower(other: dict[str, Any]) -> None:
    """Only featurize, and only if it had most of a cap, and more than it was expected to take."""
    assert fit_speed([overdue(1_000_000) | other], CAP) == fit_speed([], CAP)


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
    speed = fit_speed(runs, CAP)

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

    # Nights on which photographs were only deleted, more than are looked at.
    removals = [good | {"added": 0, "featurize_seconds": None}] * (RUNS_LOOKED_AT + 1)

    chosen = comparable([*others, *removals, good, failed], Settings(), good["feature_model"])

    assert chosen == [good, failed]
    assert fit_speed(chosen, CAP).runs == 1
