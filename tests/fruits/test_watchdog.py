"""The watchdog's deeds against a real EMR endpoint; how it judges: test_verdicts.py."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from fruits.clusters import CAP_TAG, GENERATION_TAG, LONGEST_CAP, TOKEN_TAG, cap_in
from fruits.leases import end_lease, lease_uri
from fruits.ledger import Charge, Entry, entry_uri, reserve, settle
from fruits.lifecycle import LIVE, find_cluster, terminate_cluster
from fruits.looks import look_uri, read_look
from fruits.objects import delete, list_uris, read_json, storage_time, write_bytes
from fruits.settings import Settings
from fruits.watchdog import WatchdogError, main, watch
from local_cloud.cloud import LocalCloud
from tests.fruits.emr_support import request
from tests.fruits.lease_support import LAKE, age_lease, grant, jump_clock

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
MINUTES = '{"token": "garbled", "generation": 1, "minutes": %s, "worst_case": 1, "currency": "USD"}'


@pytest.fixture
def emr(cloud: LocalCloud) -> Iterator[Any]:
    """Return an EMR client; clusters that the test leaves alive are ended."""
    client = boto3.client("emr")
    yield client
    pages = client.get_paginator("list_clusters").paginate(ClusterStates=list(LIVE))
    for cluster in [one for page in pages for one in page["Clusters"]]:
        client.set_termination_protection(JobFlowIds=[cluster["Id"]], TerminationProtected=False)
        client.terminate_job_flows(JobFlowIds=[cluster["Id"]])


def create(emr: Any, protected: bool = False, lake: str = LAKE, **tags: str) -> str:
    """Create a cluster; the tags token, cap and generation are ours."""
    named = {"token": TOKEN_TAG, "cap": CAP_TAG, "generation": GENERATION_TAG}
    asked = request(
        tags.get("token", "else"),
        LogUri=f"{lake}/logs/",
        Tags=[{"Key": named.get(key, key), "Value": value} for key, value in tags.items()],
    )
    asked["Instances"]["TerminationProtected"] = protected
    return str(emr.run_job_flow(**asked)["JobFlowId"])


def lapse(cloud: LocalCloud, token: str) -> None:
    """Grant a lease of half an hour that was last renewed 31 minutes ago."""
    grant(token)
    age_lease(cloud.storage.folder / "fruits-lake", token, 31)


def findings() -> list[str]:
    """Return where findings were written down."""
    return list_uris(f"{LAKE}/ledger/findings/")


def promise(token: str, **changes: Any) -> Entry:
    """Reserve 5 USD for a cluster of *token*, an hour ago."""
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    known = {"generation": 1, "reserved_at": now} | changes
    entry = Entry(token, worst_case=5.0, currency="USD", **known)
    reserve(LAKE, entry, 1000)
    return entry


def kept(entry: Entry) -> dict[str, Any]:
    """Return what the ledger has of the entry now."""
    return read_json(entry_uri(LAKE, entry))


def is_ending(emr: Any, cluster_id: str) -> bool:
    """Say whether the cluster was asked to end."""
    state = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]["State"]
    return str(state).startswith("TERMINAT")


class TestDeeds:
    """One look at a real endpoint."""

    def test_only_unwanted_clusters_of_ours_are_ended(self, cloud: LocalCloud, emr: Any) -> None:
        """Lease over, duplicate, wanted, foreign: each gets what it deserves, protected or not."""
        lapse(cloud, "over")
        grant("twice")
        grant("fine")
        over = create(emr, protected=True, token="over", cap="60")
        first = create(emr, token="twice", cap="60")
        second = create(emr, token="twice", cap="60")
        fine = create(emr, token="fine", cap="60")
        foreign = create(emr, Team="else")

        found = watch(Settings())

        assert set(found["terminated"]) == {over, first}
        assert {one["cluster_id"] for one in found["findings"]} == {over, first}
        assert found["ours"] == 4
        assert [is_ending(emr, one) for one in (over, first)] == [True, True]
        assert [is_ending(emr, one) for one in (second, fine, foreign)] == [False, False, False]
        assert find_cluster(emr, "twice") == second

    def test_the_cap_ends_a_cluster_whose_lease_still_runs(self, emr: Any) -> None:
        """A run that renews for ever does not keep its cluster beyond its cap."""
        grant("capped")
        capped = create(emr, token="capped", cap="0")

        found = watch(Settings())

        assert found["terminated"] == [capped]
        assert "its cap is 0 min" in found["findings"][0]["reasons"][0]

    def test_a_clock_that_jumps_ends_nothing(
        self, emr: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """EMR says how old a cluster is: this machine's clock may be days ahead."""
        grant("young")
        young = create(emr, token="young", cap="60")
        jump_clock(monkeypatch, timedelta(days=3))

        assert watch(Settings())["findings"] == []
        assert not is_ending(emr, young)

    def test_findings_are_written_down(self, cloud: LocalCloud, emr: Any) -> None:
        """What was ended, and why, can be read in the ledger; a quiet look leaves nothing."""
        watch(Settings())
        before = findings()
        lapse(cloud, "noted")
        noted = create(emr, token="noted", cap="60")

        found = watch(Settings())
        (written,) = set(findings()) - set(before)

        assert read_json(written) == found
        assert found["terminated"] == [noted]

    def test_what_cannot_be_ended_is_not_written_down_as_ended(
        self, cloud: LocalCloud, emr: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It lives, and each look would tell of it again: the look fails instead."""

        def throttled(*_: object) -> None:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "TerminateJobFlows")

        before = findings()
        lapse(cloud, "undying")
        create(emr, token="undying", cap="60")
        monkeypatch.setattr("fruits.watchdog.ask_to_end", throttled)

        with pytest.raises(WatchdogError, match="cannot be ended"):
            watch(Settings())

        assert findings() == before

    def test_each_look_is_written_down(self, emr: Any) -> None:
        """Quiet or not: that the watchdog looks can be seen, and how long ago it did."""
        before = storage_time(LAKE)

        watch(Settings())

        look = read_look(LAKE)
        assert look is not None
        assert before <= look.looked_at <= storage_time(LAKE)
        assert look.problems == ()

    def test_a_dry_run_is_no_look(self, emr: Any) -> None:
        """Somebody who asks what would end guards nothing."""
        delete(look_uri(LAKE))

        watch(Settings(), dry_run=True)

        assert read_look(LAKE) is None

    def test_a_dry_run_ends_nothing(self, cloud: LocalCloud, emr: Any) -> None:
        """A dry run finds the same and leaves everything as it is."""
        lapse(cloud, "dry")
        dry = create(emr, token="dry", cap="60")
        before = findings()

        found = watch(Settings(), dry_run=True)

        assert (found["dry_run"], found["terminated"], findings()) == (True, [], before)
        assert [one["cluster_id"] for one in found["findings"]] == [dry]
        assert not is_ending(emr, dry)

    @pytest.mark.parametrize(
        "content", ["{not json", "[]", "{}", '"minutes"', MINUTES % '"30"', MINUTES % "1e99"]
    )
    def test_an_unreadable_lease_does_not_stop_the_look(
        self, cloud: LocalCloud, emr: Any, content: str
    ) -> None:
        """A garbled lease keeps its cluster; the others are judged, and the look fails aloud."""
        write_bytes(lease_uri(LAKE, "garbled", 1), content.encode())
        lapse(cloud, "over")
        garbled = create(emr, token="garbled", cap="60")
        over = create(emr, token="over", cap="60")

        with pytest.raises(WatchdogError) as failure:
            watch(Settings())

        assert failure.value.found["terminated"] == [over]
        assert garbled in failure.value.problems[0]
        look = read_look(LAKE)
        assert look is not None
        assert look.problems == failure.value.problems
        assert not is_ending(emr, garbled)

    def test_leases_are_read_where_the_clusters_own_run_writes_them(
        self, cloud: LocalCloud, emr: Any
    ) -> None:
        """Another deployment in the account keeps its clusters: its lake has their leases."""
        grant("neighbour", lake=f"{LAKE}/of a neighbour")
        lapse(cloud, "neighbour")
        neighbour = create(emr, lake=f"{LAKE}/of a neighbour", token="neighbour", cap="60")

        assert watch(Settings())["findings"] == []
        assert not is_ending(emr, neighbour)

    def test_a_neighbours_lease_that_cannot_be_read_is_its_own_matter(self, emr: Any) -> None:
        """A role may read its own lake alone: the look does not fail, and the cluster is kept."""
        write_bytes(lease_uri(f"{LAKE}/closed", "neighbour", 1), b"{not json")
        neighbour = create(emr, lake=f"{LAKE}/closed", token="neighbour", cap="60")

        assert watch(Settings())["findings"] == []
        assert not is_ending(emr, neighbour)

    def test_a_cap_that_cannot_be_read_is_the_longest(self) -> None:
        """A tag that somebody garbled by hand neither ends a cluster nor frees it for ever."""
        assert cap_in({CAP_TAG: "soon"}) == cap_in({}) == LONGEST_CAP
        assert cap_in({CAP_TAG: "9999999"}) == cap_in({CAP_TAG: "9" * 15}) == LONGEST_CAP

    def test_all_pages_are_looked_at(self, emr: Any) -> None:
        """More live clusters than one page of ListClusters (50) shows are all seen."""
        clusters = {create(emr, token=f"page-{number}", cap="0") for number in range(52)}

        found = watch(Settings(), dry_run=True)

        assert {one["cluster_id"] for one in found["findings"]} == clusters

    def test_the_command_ends_clusters_without_airflow(
        self, cloud: LocalCloud, emr: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The command does what the DAG does, and says so."""
        caplog.set_level(logging.INFO)
        lapse(cloud, "command")
        unwanted = create(emr, token="command", cap="60")

        dry, done = main(["--dry-run"]), main([])

        assert (dry, done) == (0, 0)
        assert (
            f"{unwanted} of token command would be terminated: its lease of 30 min" in caplog.text
        )
        assert f"{unwanted} of token command is terminated: its lease of 30 min" in caplog.text
        assert is_ending(emr, unwanted)

    def test_the_command_says_what_is_wrong_with_its_settings(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A wrong region is one line and exit code 1, not an empty look that calms."""
        monkeypatch.setenv("FRUITS_REGION", "us-east-1")

        assert main([]) == 1
        assert "FRUITS_REGION: 'us-east-1' is not in the European Union" in caplog.text


class TestLedger:
    """What no run settles any more, the watchdog does."""

    def test_a_run_that_was_killed_is_settled_by_what_its_cluster_cost(
        self, cloud: LocalCloud, emr: Any
    ) -> None:
        """The promise stays charged until the cluster has ended, then its real lifetime is."""
        entry = promise("killed")
        lapse(cloud, "killed")
        killed = create(emr, token="killed", cap="60", generation="1")

        ended = watch(Settings())
        charged = kept(entry)["spent"]
        terminate_cluster(emr, killed, poll=0.05)
        settled = watch(Settings())

        assert (ended["terminated"], ended["settled"], charged) == ([killed], [], None)
        assert [one["token"] for one in settled["settled"]] == ["killed"]
        # A minute of an m5.xlarge at the least.
        assert 0.004 < kept(entry)["spent"] < 0.02
        assert [one["id"] for one in kept(entry)["clusters"]] == [killed]
        assert kept(entry)["settled_by"] == "fruits_cost_watchdog"

    def test_a_run_that_goes_on_is_not_settled(self, emr: Any) -> None:
        """While the lease runs, a cluster may still be made."""
        entry = promise("running")
        grant("running")

        assert watch(Settings())["settled"] == []
        assert kept(entry)["spent"] is None

    def test_a_promise_whose_lease_was_lost_has_a_grace(self, emr: Any) -> None:
        """A promise is written before its lease: without one it is given back after a while."""
        old = promise("lost")
        young = promise("unborn", reserved_at=datetime.now(UTC).replace(microsecond=0))
        # The lease of the generation before says nothing of this one.
        again = promise("again", generation=2, reserved_at=young.reserved_at)
        grant("again")
        end_lease(LAKE, "again")

        watch(Settings())

        assert [kept(entry)["spent"] for entry in (old, young, again)] == [0, None, None]

    def test_a_late_cluster_is_charged(self, emr: Any) -> None:
        """A cluster that came to be after its run was settled opens the entry again, and counts."""
        entry = promise("late")
        settle(LAKE, entry, [Charge("j-first", 60, 0.5)], "terminate_cluster", NOW)
        grant("late")
        end_lease(LAKE, "late")
        late = create(emr, token="late", cap="60", generation="1")

        watch(Settings())
        charged = kept(entry)["spent"]
        terminate_cluster(emr, late, poll=0.05)
        watch(Settings())

        assert charged is None
        assert {one["id"] for one in kept(entry)["clusters"]} == {"j-first", late}
        assert 0.504 < kept(entry)["spent"] < 0.52

    @pytest.mark.parametrize("torn", ["lease", "entry", "entry of last month"])
    def test_what_cannot_be_read_keeps_no_other_waiting(
        self, cloud: LocalCloud, emr: Any, torn: str
    ) -> None:
        """Charged at the worst case, a month of dead runs would stop those that live."""
        dead = promise(f"dead beside {torn}")
        lapse(cloud, dead.token)
        last_month = storage_time(LAKE).replace(day=1) - timedelta(days=1)
        when = last_month if torn == "entry of last month" else dead.reserved_at
        garbled = promise("torn", reserved_at=when)
        uri = lease_uri(LAKE, "torn", 1) if torn == "lease" else entry_uri(LAKE, garbled)
        write_bytes(uri, b"{")

        with pytest.raises(WatchdogError, match=r"torn\.1\.json"):
            watch(Settings())
        charged = kept(garbled)["spent"] if torn == "lease" else None
        delete(uri)
        delete(entry_uri(LAKE, garbled))

        assert kept(dead)["spent"] == 0
        assert charged is None  # somebody may wait for its cluster

    def test_a_ledger_that_cannot_be_read_does_not_keep_a_cluster(
        self, cloud: LocalCloud, emr: Any
    ) -> None:
        """Ending comes first; what is wrong with the ledger is said aloud."""
        lapse(cloud, "unbooked")
        unbooked = create(emr, token="unbooked", cap="60")
        garbled = entry_uri(LAKE, promise("torn"))
        write_bytes(garbled, b"{}")

        with pytest.raises(WatchdogError, match=r"torn\.1\.json") as failure:
            watch(Settings())
        delete(garbled)

        assert failure.value.found["terminated"] == [unbooked]
        assert is_ending(emr, unbooked)
