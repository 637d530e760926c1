"""The watchdog's judgement on any set of clusters, and its deeds against a real EMR endpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fruits.clusters import CAP_TAG, TOKEN_TAG, cluster_name
from fruits.leases import Lease, grant_lease, lease_uri
from fruits.lifecycle import find_cluster
from fruits.objects import write_bytes
from fruits.settings import Settings
from fruits.watchdog import GRACE, LONGEST_CAP, Sighting, WatchdogError, judge, main, watch
from local_cloud.cloud import LocalCloud

LAKE = "s3://fruits-lake"
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
CAP = timedelta(minutes=60)


def lease(minutes_left: float) -> Lease:
    """Return a lease that ends in some minutes, or ended some minutes ago."""
    return Lease("token", 1, NOW + timedelta(minutes=minutes_left), 30, 1.0, "USD")


def seen(age: float = 20, cluster_id: str = "j-1", **changes: Any) -> Sighting:
    """Return a wanted cluster of *age* minutes, with *changes*."""
    created = NOW - timedelta(minutes=age)
    known: dict[str, Any] = {"token": "token", "cap": CAP, "lease": lease(10)}
    return Sighting(cluster_id=cluster_id, created=created, **known | changes)


def age_key(one: Sighting) -> tuple[datetime, str]:
    """Return what orders clusters by age: of two of the same second, the later id counts."""
    return one.created, one.cluster_id


AGES = st.floats(0, 300)
SIGHTINGS = st.lists(
    st.builds(
        seen,
        age=AGES,
        cluster_id=st.uuids().map(str),
        token=st.sampled_from("abc"),
        lease=st.none() | st.floats(-60, 60).map(lease),
        unreadable=st.sampled_from(["", "SlowDown"]),
    ),
    max_size=8,
    unique_by=lambda one: one.cluster_id,
)


class TestJudgement:
    """Records in, verdicts out."""

    def test_a_wanted_cluster_stays(self) -> None:
        """A lease that runs, an age below the cap, the only one of its token: no reason to end."""
        assert not judge([seen()], NOW)[0].ends

    @pytest.mark.parametrize(
        ("sighting", "reason"),
        [
            (seen(lease=lease(0)), "its lease was over at 2026-11-21 03:00:00 UTC"),
            (seen(lease=None), "it has no lease, 20 min after its creation"),
            (seen(age=60), "it is 60 min old, its cap is 60 min"),
            (seen(age=60, lease=None, unreadable="S3"), "it is 60 min old, its cap is 60 min"),
        ],
    )
    def test_each_reason_ends_a_cluster_by_itself(self, sighting: Sighting, reason: str) -> None:
        """A lease that is over or missing and a cap that is reached each suffice, and are named."""
        assert judge([sighting], NOW)[0].reasons == (reason,)

    def test_a_missing_lease_has_a_grace(self) -> None:
        """A cluster whose lease cannot be seen yet is not ended in its first minutes."""
        age = GRACE.total_seconds() / 60 - 1

        assert not judge([seen(age=age, lease=None)], NOW)[0].ends

    def test_an_unreadable_lease_ends_nothing(self) -> None:
        """Trouble with S3 must not end a cluster that somebody may want."""
        assert not judge([seen(lease=None, unreadable="SlowDown")], NOW)[0].ends

    def test_the_newest_of_a_token_stays(self) -> None:
        """Of two clusters of one token the older goes; those of other tokens do not count."""
        older, newer = seen(21, "j-older"), seen(20, "j-newer")
        other = seen(19, "j-other", token="another")

        verdicts = judge([newer, older, other], NOW)

        assert [verdict.ends for verdict in verdicts] == [False, True, False]
        assert verdicts[1].reasons == ("j-newer is the newest cluster of its token",)

    @given(SIGHTINGS)
    def test_exactly_the_unwanted_go(self, sightings: list[Sighting]) -> None:
        """The rules hold for every mixture of clusters, whatever their order."""
        verdicts = judge(sightings, NOW)

        assert [verdict.cluster_id for verdict in verdicts] == [s.cluster_id for s in sightings]
        for one, verdict in zip(sightings, verdicts, strict=True):
            over = one.lease is not None and one.lease.until <= NOW
            lost = one.lease is None and not one.unreadable and NOW - one.created >= GRACE
            younger = any(s.token == one.token and age_key(s) > age_key(one) for s in sightings)
            assert verdict.ends == (over or lost or NOW - one.created >= one.cap or younger)

    @given(SIGHTINGS)
    def test_no_token_keeps_two(self, sightings: list[Sighting]) -> None:
        """At most one cluster of a token survives a look."""
        kept = [verdict.token for verdict in judge(sightings, NOW) if not verdict.ends]

        assert len(kept) == len(set(kept))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run one S3 and one EMR for the module; their clients in this process find them by env."""
    folder = tmp_path_factory.mktemp("cloud")
    with LocalCloud(folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment().items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def emr(cloud: LocalCloud) -> Iterator[Any]:
    """Return an EMR client; clusters that the test leaves alive are ended."""
    client = boto3.client("emr")
    yield client
    left = client.list_clusters(ClusterStates=["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"])
    for cluster in left["Clusters"]:
        client.set_termination_protection(JobFlowIds=[cluster["Id"]], TerminationProtected=False)
        client.terminate_job_flows(JobFlowIds=[cluster["Id"]])


def create(emr: Any, protected: bool = False, lake: str = LAKE, **tags: str) -> str:
    """Create a cluster; the tags token and cap are ours."""
    named = {"token": TOKEN_TAG, "cap": CAP_TAG}
    machine = {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}
    answer = emr.run_job_flow(
        Name=cluster_name(tags.get("token", "else")),
        ReleaseLabel="emr-spark-8.1.0",
        LogUri=f"{lake}/logs/",
        JobFlowRole="EMR_EC2_DefaultRole",
        ServiceRole="EMR_DefaultRole_V2",
        Instances={
            "InstanceGroups": [machine],
            "KeepJobFlowAliveWhenNoSteps": True,
            "TerminationProtected": protected,
        },
        Tags=[{"Key": named.get(key, key), "Value": value} for key, value in tags.items()],
    )
    return str(answer["JobFlowId"])


def grant(token: str, *, ago: float = 0, lake: str = LAKE) -> None:
    """Grant a lease of 30 minutes, *ago* minutes ago."""
    then = datetime.now(UTC) - timedelta(minutes=ago)
    grant_lease(lake, token, minutes=30, worst_case=1, currency="USD", now=then)


def is_ending(emr: Any, cluster_id: str) -> bool:
    """Say whether the cluster was asked to end."""
    state = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]["State"]
    return str(state).startswith("TERMINAT")


class TestDeeds:
    """One look at a real endpoint."""

    def test_only_unwanted_clusters_of_ours_are_ended(self, emr: Any) -> None:
        """Lease over, duplicate, wanted, foreign: each gets what it deserves, protected or not."""
        grant("over", ago=31)
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

    def test_a_dry_run_ends_nothing(self, emr: Any) -> None:
        """A dry run finds the same and leaves everything as it is."""
        grant("dry", ago=31)
        dry = create(emr, token="dry", cap="60")

        found = watch(Settings(), dry_run=True)

        assert (found["dry_run"], found["terminated"]) == (True, [])
        assert [one["cluster_id"] for one in found["findings"]] == [dry]
        assert not is_ending(emr, dry)

    def test_an_unreadable_lease_does_not_stop_the_look(self, emr: Any) -> None:
        """A garbled lease keeps its cluster; the others are judged, and the look fails aloud."""
        write_bytes(lease_uri(LAKE, "garbled"), b"{not json")
        grant("over", ago=31)
        garbled = create(emr, token="garbled", cap="60")
        over = create(emr, token="over", cap="60")

        with pytest.raises(WatchdogError) as failure:
            watch(Settings())

        assert failure.value.terminated == (over,)
        assert garbled in failure.value.problems[0]
        assert not is_ending(emr, garbled)

    def test_leases_are_read_where_the_clusters_own_run_writes_them(self, emr: Any) -> None:
        """Another deployment in the account keeps its clusters: its lake has their leases."""
        grant("neighbour", lake=f"{LAKE}/of a neighbour")
        grant("neighbour", ago=31)
        neighbour = create(emr, lake=f"{LAKE}/of a neighbour", token="neighbour", cap="60")

        assert watch(Settings())["findings"] == []
        assert not is_ending(emr, neighbour)

    def test_a_cap_that_cannot_be_read_is_the_longest(self, emr: Any) -> None:
        """A tag that somebody garbled by hand neither ends a cluster nor frees it for ever."""
        from fruits.watchdog import _cap

        assert _cap({CAP_TAG: "soon"}) == _cap({}) == _cap({CAP_TAG: "9999999"}) == LONGEST_CAP

    def test_all_pages_are_looked_at(self, emr: Any) -> None:
        """More live clusters than one page of ListClusters (50) shows are all seen."""
        clusters = {create(emr, token=f"page-{number}", cap="0") for number in range(52)}

        found = watch(Settings(), dry_run=True)

        assert {one["cluster_id"] for one in found["findings"]} == clusters

    def test_the_command_ends_clusters_without_airflow(
        self, emr: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The command does what the DAG does, and says so."""
        caplog.set_level(logging.INFO)
        grant("command", ago=31)
        unwanted = create(emr, token="command", cap="60")

        dry, done = main(["--dry-run"]), main([])

        assert (dry, done) == (0, 0)
        assert f"{unwanted} of token command would be terminated: its lease was over" in caplog.text
        assert f"{unwanted} of token command is terminated: its lease was over" in caplog.text
        assert is_ending(emr, unwanted)
