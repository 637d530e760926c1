"""A cluster's life at a real EMR endpoint: found again, made once, told why it failed, ended."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from fruits.clusters import TOKEN_TAG
from fruits.lifecycle import (
    ClusterFailedError,
    WaitTimeoutError,
    await_cluster,
    check_alive,
    cluster_age,
    create_cluster,
    emr_client,
    end_duplicates,
    find_cluster,
    find_clusters,
    lifetime,
    list_instances,
    terminate_cluster,
)
from local_cloud.cloud import LocalCloud
from local_cloud.emr.server import EmrEndpoint
from tests.fruits.emr_support import POLL, REGION, calls, cluster_state, request, spoiling, until


class TestCreating:
    """One token, one cluster."""

    def test_a_live_cluster_is_adopted(self, cloud: LocalCloud) -> None:
        """Who asks again for the cluster of a token gets the same one."""
        first = create_cluster(REGION, request("adopted"), "adopted")

        assert create_cluster(REGION, request("adopted"), "adopted") == first
        assert calls(cloud, "RunJobFlow", "'fruits adopted'") == 1

    def test_a_cluster_that_has_ended_is_replaced(self, emr: Any) -> None:
        """Only a live cluster is adopted; the one that ended is still found by its token."""
        first = create_cluster(REGION, request("again"), "again")
        terminate_cluster(emr, first, timeout=30, poll=POLL)

        second = create_cluster(REGION, request("again"), "again")

        assert second != first
        assert set(find_clusters(emr, "again")) == {first, second}

    def test_the_tag_counts_and_not_the_name_alone(self, emr: Any) -> None:
        """A cluster that somebody named like ours is not ours."""
        emr.run_job_flow(**request("namesake", Tags=[{"Key": TOKEN_TAG, "Value": "another"}]))

        assert find_cluster(emr, "namesake") is None

    def test_a_lost_answer_makes_no_second_cluster(
        self, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RunJobFlow is sent once; the cluster whose id got lost is found by its token."""
        target = cloud.emr.endpoint_url
        with spoiling(target, lose={"RunJobFlow": 1}) as spoiler:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", spoiler.url)
            found = create_cluster(REGION, request("lost"), "lost")

        assert found == find_cluster(boto3.client("emr", endpoint_url=target), "lost")
        assert calls(cloud, "RunJobFlow", "'fruits lost'") == 1

    def test_the_proxy_really_loses_answers(
        self, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without this guard the same loss makes a second cluster: botocore sends again."""
        with spoiling(cloud.emr.endpoint_url, lose={"RunJobFlow": 1}) as spoiler:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", spoiler.url)
            emr_client(REGION).run_job_flow(**request("twice"))

        assert calls(cloud, "RunJobFlow", "'fruits twice'") == 2


class TestClocks:
    """Nothing of EMR is searched for, nor thought old, by the clock of this machine."""

    def test_a_clock_that_is_a_month_ahead_finds_every_cluster(
        self, tmp_path: Path, cloud: LocalCloud
    ) -> None:
        """Live and ended clusters are found, and their age is EMR's, not the difference to ours."""
        behind = timedelta(days=30).total_seconds()
        services = {"AWS_ENDPOINT_URL_S3": cloud.storage.endpoint_url}
        folder, buckets = tmp_path / "emr", cloud.storage.folder
        with EmrEndpoint(folder, buckets, services, clock=lambda: time.time() - behind) as server:
            then = boto3.client("emr", endpoint_url=server.endpoint_url)
            ended = then.run_job_flow(**request("ahead"))["JobFlowId"]
            terminate_cluster(then, ended, timeout=30, poll=POLL)
            live = then.run_job_flow(**request("ahead"))["JobFlowId"]

            assert find_cluster(then, "ahead") == live
            assert set(find_clusters(then, "ahead")) == {live, ended}
            assert timedelta(0) <= cluster_age(then, live) < timedelta(minutes=1)

    def test_a_cluster_grows_older(self, emr: Any) -> None:
        """The age counts from the creation, to the second."""
        cluster_id = create_cluster(REGION, request("ageing"), "ageing")

        until(lambda: cluster_age(emr, cluster_id) >= timedelta(seconds=1))


class TestDuplicates:
    """A token that got two clusters loses one of them."""

    def test_only_the_one_that_is_waited_for_stays(self, emr: Any) -> None:
        """Others of the token end, protected or not; another token's and the kept one live on."""
        protected = request("many")["Instances"] | {"TerminationProtected": True}
        first = emr.run_job_flow(**request("many", Instances=protected))["JobFlowId"]
        kept = emr.run_job_flow(**request("many"))["JobFlowId"]
        foreign = emr.run_job_flow(**request("few"))["JobFlowId"]

        assert end_duplicates(emr, "many", kept) == [first]
        until(lambda: cluster_state(emr, first) == "TERMINATED")
        assert check_alive(emr, kept)
        assert check_alive(emr, foreign)
        assert end_duplicates(emr, "many", kept) == []


class TestWaiting:
    """A cluster that is ready, or the reason why it is not."""

    def test_a_failed_bootstrap_tells_its_reason(self, emr: Any) -> None:
        """The error names the cluster, why it ended, and where its logs are."""
        boto3.client("s3").put_object(Bucket="fruits-lake", Key="broken.sh", Body=b"exit 3")
        action = {"Path": "s3://fruits-lake/broken.sh"}
        broken = [{"Name": "broken", "ScriptBootstrapAction": action}]
        cluster_id = create_cluster(REGION, request("broken", BootstrapActions=broken), "broken")

        with pytest.raises(ClusterFailedError) as failure:
            await_cluster(emr, cluster_id, timeout=30, poll=POLL)

        assert failure.value.cluster_id == cluster_id
        assert "BOOTSTRAP_FAILURE" in failure.value.reason
        assert failure.value.log_uri == f"s3://fruits-lake/logs/{cluster_id}/"

    def test_a_wait_has_an_end(self, emr: Any) -> None:
        """A cluster that does not get ready in time is an error with the time."""
        boto3.client("s3").put_object(Bucket="fruits-lake", Key="slow.sh", Body=b"sleep 60")
        action = {"Path": "s3://fruits-lake/slow.sh"}
        slow = [{"Name": "slow", "ScriptBootstrapAction": action}]
        cluster_id = create_cluster(REGION, request("slow", BootstrapActions=slow), "slow")

        with pytest.raises(WaitTimeoutError) as failure:
            await_cluster(emr, cluster_id, timeout=0.2, poll=POLL)

        assert failure.value.seconds == 0.2


class TestEnding:
    """An end that is asked for twice is still one end."""

    def test_a_protected_cluster_ends_too(self, emr: Any) -> None:
        """Termination protection is taken off first; the description says how long it lived."""
        instances = request("x")["Instances"] | {"TerminationProtected": True}
        made = request("protected", Instances=instances)
        cluster_id = create_cluster(REGION, made, "protected")

        ended = terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        assert ended
        assert ended["Status"]["State"] == "TERMINATED"
        assert 0 <= lifetime(ended) < 60

    def test_an_end_needs_no_right_to_take_protection_off(self, cloud: LocalCloud) -> None:
        """Ours are not protected: a role that may only terminate ends them all the same."""
        cluster_id = create_cluster(REGION, request("unprotected"), "unprotected")
        with spoiling(
            cloud.emr.endpoint_url, throttle={"SetTerminationProtection": 1000}
        ) as spoiler:
            refused = boto3.client(
                "emr", endpoint_url=spoiler.url, config=Config(retries={"total_max_attempts": 1})
            )
            ended = terminate_cluster(refused, cluster_id, timeout=30, poll=POLL)

        assert ended
        assert ended["Status"]["State"] == "TERMINATED"

    def test_ending_what_has_ended_is_fine(self, emr: Any) -> None:
        """A teardown that is repeated finds its cluster gone, and that is what it wanted."""
        cluster_id = create_cluster(REGION, request("gone"), "gone")
        first = terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        again = terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        assert first
        assert again
        assert again["Status"]["State"] == "TERMINATED"
        assert lifetime(again) == lifetime(first)

    def test_a_cluster_that_emr_does_not_know_is_gone(self, emr: Any) -> None:
        """There is nothing to end, and nothing to fail for."""
        assert terminate_cluster(emr, "j-0123456789ABC", timeout=5, poll=POLL) is None

    def test_a_refusal_is_asked_again(self, cloud: LocalCloud, emr: Any) -> None:
        """A throttled TerminateJobFlows does not end the teardown: the next look asks again."""
        cluster_id = create_cluster(REGION, request("refused"), "refused")
        refused = {"TerminateJobFlows": 2, "SetTerminationProtection": 1}
        with spoiling(cloud.emr.endpoint_url, throttle=refused) as spoiler:
            impatient = boto3.client(
                "emr", endpoint_url=spoiler.url, config=Config(retries={"total_max_attempts": 1})
            )
            ended = terminate_cluster(impatient, cluster_id, timeout=30, poll=POLL)

        assert ended
        assert ended["Status"]["State"] == "TERMINATED"
        assert spoiler.received["TerminateJobFlows"] >= 3

    def test_every_instance_tells_how_long_it_lived(self, emr: Any) -> None:
        """Each node of each role is listed with its type and both ends of its life."""
        machines = [
            {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1},
            {"InstanceRole": "CORE", "InstanceType": "c5.xlarge", "InstanceCount": 3},
        ]
        instances = {"InstanceGroups": machines, "KeepJobFlowAliveWhenNoSteps": True}
        cluster_id = create_cluster(REGION, request("nodes", Instances=instances), "nodes")
        terminate_cluster(emr, cluster_id, timeout=30, poll=POLL)

        listed = list_instances(emr, cluster_id)

        types = sorted(one["InstanceType"] for one in listed)
        assert types == ["c5.xlarge"] * 3 + ["m5.xlarge"]
        timelines = [one["Status"]["Timeline"] for one in listed]
        assert all(its["EndDateTime"] >= its["CreationDateTime"] for its in timelines)
