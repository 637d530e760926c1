"""reserve_cluster: nothing is promised that a cap does not allow, and what is promised is kept."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from fruits.clusters import GENERATION_TAG, cluster_roles
from fruits.costs import (
    MARGIN,
    CostCapError,
    OldPricesError,
    cost,
    read_prices,
)
from fruits.errors import FruitsError
from fruits.ingestion import reserve
from fruits.leases import Lease, end_lease, read_lease
from fruits.ledger import Entry, MonthCapError, entry_uri, month_of, month_so_far
from fruits.ledger import reserve as enter
from fruits.objects import delete, list_uris, read_json, write_json
from fruits.settings import Settings, load_settings
from fruits.steps import StagedJobs
from local_cloud.s3 import ObjectStorage
from tests.fruits.lease_support import LAKE, jump_clock, leave_months_end

STAGED = {field.name: f"{LAKE}/jobs/{field.name}" for field in fields(StagedJobs)}

# So many that they need every worker that the settings allow.
MODEL = "MobileNetV2-224-bilinear-v2-715706dbcc4b"
MANY = {"feature_model": MODEL, "counts": {"added": 3_000_000}, "added_bytes": 0}


@pytest.fixture(autouse=True)
def within_a_month() -> None:
    """Let a promise and the look for it be in one month."""
    leave_months_end()


def settings(**overrides: Any) -> Settings:
    """Return settings that old prices do not stop."""
    return load_settings(**{"prices_max_age_days": 36500} | overrides)


def test_a_promise_is_charged_before_its_cluster_can_exist(storage: ObjectStorage) -> None:
    """The answer, the ledger and the lease agree on generation and worst case."""
    chosen = settings()
    worst = cost(cluster_roles(chosen), chosen.cap_minutes + MARGIN, read_prices(chosen.region))

    answer = reserve(chosen, "a", STAGED, MANY)

    now = datetime.now(UTC)
    written = read_json(f"{LAKE}/ledger/{month_of(now)}/a.1.json")
    assert answer["worst_case"] == pytest.approx(worst.amount, abs=1e-4)
    assert answer["worst_case"] == written["worst_case"] == answer["month_so_far"]
    assert read_lease(LAKE, "a") == Lease("a", 1, 30, answer["worst_case"], "USD")
    tags = {tag["Key"]: tag["Value"] for tag in answer["request"]["Tags"]}
    assert tags[GENERATION_TAG] == str(answer["generation"]) == "1"


def test_a_small_batch_is_promised_a_small_cluster(storage: ObjectStorage) -> None:
    """A hundred images get one worker of the ten allowed: request, promise and answer agree."""
    few = {"feature_model": MODEL, "counts": {"added": 100}, "added_bytes": 600_000}
    alone = settings(workers=1)
    worst = cost(cluster_roles(alone), alone.cap_minutes + MARGIN, read_prices(alone.region))

    answer = reserve(settings(workers=10, cap_money=50), "a", STAGED, few)

    _, workers = answer["request"]["Instances"]["InstanceFleets"]
    assert answer["sizing"]["workers"] == workers["TargetOnDemandCapacity"] == 1
    assert answer["worst_case"] == pytest.approx(worst.amount, abs=1e-4)


def test_each_call_is_a_generation_and_charged(storage: ObjectStorage) -> None:
    """Clearing a run may make a cluster again: the month has room for both, or it fails."""
    first = reserve(settings(), "a", STAGED, MANY)
    end_lease(LAKE, "a")

    second = reserve(settings(), "a", STAGED, MANY)
    lease = read_lease(LAKE, "a")

    assert (first["generation"], second["generation"]) == (1, 2)
    assert second["month_so_far"] == pytest.approx(2 * first["worst_case"])
    assert lease
    assert (lease.generation, lease.is_over) == (2, False)


def test_no_generation_comes_twice(storage: ObjectStorage) -> None:
    """A lease that is lost does not count back."""
    reserve(settings(), "a", STAGED, MANY)
    reserve(settings(), "a", STAGED, MANY)
    for generation in (1, 2):
        delete(f"{LAKE}/leases/a.{generation}.json")

    third = reserve(settings(), "a", STAGED, MANY)

    assert third["generation"] == 3


@pytest.mark.parametrize("left", ["tables/features/data/a/4.2/part-0.parquet", "models/pca/a-4.1/"])
def test_a_run_of_months_ago_overwrites_nothing(storage: ObjectStorage, left: str) -> None:
    """Lease and ledger have forgotten it, but what it committed lies where its attempts wrote."""
    write_json(f"{LAKE}/{left}model.json", {})

    assert reserve(settings(), "a", STAGED, MANY)["generation"] == 5


@pytest.mark.parametrize(
    ("overrides", "error", "says"),
    [
        ({"cap_money": 0.5}, CostCapError, "above FRUITS_CAP_MONEY (0.50): primary: 1 x m6i.xl"),
        (
            {"cap_money": 4, "month_cap_money": 4},
            MonthCapError,
            "above FRUITS_MONTH_CAP_MONEY (4.00). Take fewer or smaller workers",
        ),
        (
            {"prices_max_age_days": 1},
            OldPricesError,
            "Refresh it with `python -m fruits.prices`, or allow its age with FRUITS_PRICES_MAX_",
        ),
    ],
)
def test_what_cannot_be_promised_leaves_nothing_behind(
    storage: ObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
    overrides: dict[str, Any],
    error: type[FruitsError],
    says: str,
) -> None:
    """One line says what to change; neither a lease nor a charge was made."""
    old = replace(read_prices("eu-west-3"), as_of=date(2025, 1, 1))
    monkeypatch.setattr("fruits.ingestion.read_prices", lambda _: old)
    now = datetime.now(UTC)
    enter(LAKE, Entry("other", 1, 3.5, "USD", now), 100)
    before = list_uris(f"{LAKE}/")

    with pytest.raises(error) as refused:
        reserve(settings(**overrides), "a", STAGED, MANY)

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list_uris(f"{LAKE}/") == before
    assert month_so_far(LAKE, month_of(now)) == 3.5


@pytest.mark.parametrize("wrong", [timedelta(days=40), timedelta(days=-40)])
def test_a_clock_that_jumps_does_not_change_the_month(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, wrong: timedelta
) -> None:
    """The month that is charged is S3's: a wrong clock does not find an empty one."""
    now = datetime.now(UTC)
    jump_clock(monkeypatch, wrong)

    answer = reserve(settings(), "a", STAGED, MANY)

    assert answer["month"] == month_of(now)
    assert entry_uri(LAKE, Entry("a", 1, 1.0, "USD", now)) in list_uris(f"{LAKE}/ledger/")
