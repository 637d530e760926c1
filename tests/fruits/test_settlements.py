"""terminate_cluster: every cluster of the token ends, and the ledger says what each one cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fruits.clusters import GENERATION_TAG, TOKEN_TAG
from fruits.costs import read_prices
from fruits.ingestion import terminate
from fruits.leases import LeaseError, lease_uri, read_lease
from fruits.ledger import Entry, entry_uri, reserve
from fruits.lifecycle import terminate_cluster
from fruits.objects import delete, read_json, write_bytes
from fruits.settings import Settings, load_settings
from fruits.settlements import UnsettledError, charge, settle_entries
from local_cloud.cloud import LocalCloud
from tests.fruits.emr_support import POLL, REGION, cluster_state, request, until
from tests.fruits.lease_support import LAKE, grant

CREATED = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
MACHINE = {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}


def create(emr: Any, token: str, generation: int = 1, **changes: Any) -> str:
    """Create a cluster of a generation of *token*."""
    tags = {TOKEN_TAG: token, GENERATION_TAG: str(generation)}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return str(emr.run_job_flow(**request(token, Tags=listed, **changes))["JobFlowId"])


def promise(token: str, generation: int = 1) -> Entry:
    """Write the ledger's entry, for 5 USD, and the lease."""
    now = datetime.now(UTC).replace(microsecond=0)
    entry = Entry(token, generation, 5.0, "USD", now)
    reserve(LAKE, entry, 1000)
    grant(token, generation=generation)
    return entry


def settings() -> Settings:
    """Return settings that look often."""
    return load_settings(poll_seconds=POLL)


def kept(entry: Entry) -> dict[str, Any]:
    """Return what the ledger has of the entry now."""
    return read_json(entry_uri(LAKE, entry))


class TestTeardown:
    """By token, all of them, and what they cost."""

    def test_every_cluster_of_the_token_ends_and_is_charged(self, emr: Any) -> None:
        """Two live ones, one of them protected, and one that ended before: none is forgotten."""
        entry = promise("several")
        gone = create(emr, "several")
        terminate_cluster(emr, gone, poll=POLL)
        protected = {
            "InstanceGroups": [MACHINE],
            "KeepJobFlowAliveWhenNoSteps": True,
            "TerminationProtected": True,
        }
        live = [create(emr, "several"), create(emr, "several", Instances=protected)]

        answer = terminate(settings(), "several")

        assert set(answer["clusters"]) == {gone, *live}
        assert {cluster_state(emr, one) for one in live} == {"TERMINATED"}
        assert {one["id"] for one in kept(entry)["clusters"]} == {gone, *live}
        assert kept(entry)["spent"] == answer["cost"]
        assert (kept(entry)["settled_by"], answer["promised"]) == ("terminate_cluster", 5.0)
        # Three nodes of 0.224 EC2 + 0.048 EMR + 0.01 for their disk an hour, a minute each.
        assert answer["cost"] == pytest.approx(3 * 0.282 / 60, abs=3e-4)

    def test_the_lease_is_over_from_then_on(self, emr: Any) -> None:
        """Should the rest of the teardown die, the watchdog ends the cluster."""
        promise("left")

        terminate(settings(), "left")
        lease = read_lease(LAKE, "left")

        assert lease
        assert lease.ended

    def test_the_lease_ends_before_emr_is_asked(
        self, emr: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An EMR that does not answer fails the teardown, and the watchdog may act at once."""
        promise("unreachable")
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", "http://127.0.0.1:9")
        monkeypatch.setattr("fruits.lifecycle.emr_client", _impatient)

        with pytest.raises(Exception, match="Could not connect"):
            terminate(settings(), "unreachable")
        lease = read_lease(LAKE, "unreachable")

        assert lease
        assert lease.ended

    def test_a_lake_that_cannot_be_read_keeps_no_cluster_alive(self, emr: Any) -> None:
        """The cluster ends although its lease is garbled; the teardown fails, and says why."""
        promise("garbled")
        write_bytes(lease_uri(LAKE, "garbled", 1), b"{not json")
        live = create(emr, "garbled")

        with pytest.raises(LeaseError, match="property name"):
            terminate(settings(), "garbled")

        assert cluster_state(emr, live) == "TERMINATED"

    def test_each_generation_pays_for_its_own_clusters(self, emr: Any) -> None:
        """A run that was cleared has two promises; the answer has the sum of both."""
        first, second = promise("cleared", 1), promise("cleared", 2)
        clusters = [create(emr, "cleared", generation) for generation in (1, 2)]

        answer = terminate(settings(), "cleared")

        assert [kept(entry)["clusters"][0]["id"] for entry in (first, second)] == clusters
        assert answer["promised"] == 10.0
        assert answer["cost"] == pytest.approx(kept(first)["spent"] + kept(second)["spent"])

    def test_a_promise_without_a_cluster_is_given_back(self, emr: Any) -> None:
        """A run that failed before it made a cluster has cost nothing."""
        entry = promise("nothing")

        answer = terminate(settings(), "nothing")

        assert (answer["clusters"], answer["cost"], kept(entry)["spent"]) == ([], 0, 0)

    def test_a_teardown_can_be_repeated(self, emr: Any) -> None:
        """Whoever calls it again gets the same answer and changes nothing."""
        entry = promise("repeated")
        create(emr, "repeated")

        first = terminate(settings(), "repeated")
        written = kept(entry)
        second = terminate(settings(), "repeated")

        assert first == second
        assert kept(entry) == written

    def test_costs_never_fail_a_teardown(self, emr: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A ledger that is torn is said in the log; the cluster has ended all the same."""
        entry = promise("torn")
        cluster_id = create(emr, "torn")
        write_bytes(entry_uri(LAKE, entry), b"{}")

        answer = terminate(settings(), "torn")
        delete(entry_uri(LAKE, entry))

        assert cluster_state(emr, cluster_id) == "TERMINATED"
        assert (answer["cost"], answer["promised"]) == (None, None)
        assert "torn.1.json" in caplog.text


class TestSettling:
    """From EMR's records to a charge."""

    def test_a_living_cluster_is_not_settled(self, cloud: LocalCloud, emr: Any) -> None:
        """Until the last cluster of the token has ended, its promise is what is charged."""
        entry = promise("alive")
        cluster_id = create(emr, "alive")
        until(lambda: cluster_state(emr, cluster_id) == "WAITING")
        how = {"settled_by": "a test", "now": datetime.now(UTC)}

        settled = settle_entries(emr, LAKE, [entry], read_prices(REGION), **how)  # type: ignore[arg-type]
        terminate_cluster(emr, cluster_id, poll=POLL)

        assert settled == []
        assert kept(entry)["spent"] is None

    def test_a_cost_that_nobody_knows_keeps_no_other_waiting(self, emr: Any) -> None:
        """A type has left the price table: its entry stays at the worst, others are settled."""
        unknown, known = promise("unknown"), promise("known")
        rare = {"InstanceGroups": [MACHINE | {"InstanceType": "m5.2xlarge"}]}
        for token, changes in (("unknown", {"Instances": rare}), ("known", {})):
            terminate_cluster(emr, create(emr, token, **changes), poll=POLL)
        prices = read_prices(REGION)
        left = {name: price for name, price in prices.instances.items() if name != "m5.2xlarge"}
        prices = replace(prices, instances=left)

        with pytest.raises(UnsettledError, match="There is no price for m5") as failure:
            settle_entries(
                emr, LAKE, [unknown, known], prices, settled_by="me", now=datetime.now(UTC)
            )

        assert failure.value.entries == ("generation 1 of unknown",)
        assert (kept(unknown)["spent"], kept(known)["settled_by"]) == (None, "me")

    def test_each_instance_is_charged_for_its_own_life(self) -> None:
        """A node that was replaced counts for its hour; one without an end lived to the last."""
        hour = timedelta(hours=1)
        cluster = {"Id": "j-1", "Status": {"Timeline": timeline(CREATED, CREATED + 2 * hour)}}
        instances = [
            instance(timeline(CREATED, CREATED + hour)),
            instance(timeline(CREATED + hour, CREATED + 2 * hour)),
            instance({"CreationDateTime": CREATED}),
        ]

        charged = charge(cluster, instances, read_prices(REGION))

        assert charged.seconds == 7200
        assert charged.cost == pytest.approx(4 * 0.282, abs=1e-3)

    def test_a_cluster_that_got_no_instance_costs_nothing(self) -> None:
        """Capacity that never came is not charged."""
        cluster = {"Id": "j-1", "Status": {"Timeline": timeline(CREATED, CREATED)}}

        assert charge(cluster, [], read_prices(REGION)).cost == 0


def timeline(created: datetime, ended: datetime) -> dict[str, datetime]:
    """Return EMR's timeline of something that has ended."""
    return {"CreationDateTime": created, "EndDateTime": ended}


def instance(lived: dict[str, datetime]) -> Any:
    """Return an instance as ListInstances shows it."""
    return {"InstanceType": "m5.xlarge", "Status": {"State": "TERMINATED", "Timeline": lived}}


def _impatient(region: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("emr", region_name=region, config=Config(retries={"max_attempts": 0}))
