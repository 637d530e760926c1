"""What the page shows of a lake: clusters, money, batches, model; and what it reads for that."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from fruits.clusters import LONGEST_CAP
from fruits.costs import read_prices
from fruits.leases import end_lease, lease_uri
from fruits.looks import look_uri, remember_look
from fruits.objects import write_bytes, write_json
from fruits.page.clusters_now import live_clusters
from fruits.page.findings import TIME
from fruits.page.parts import Reading
from fruits.page.readings import KEPT_SECONDS, Reader, Readings
from fruits.rendering import render_template
from fruits.settings import Settings, load_settings
from local_cloud.cloud import LocalCloud
from local_cloud.emr.programs import Programs
from tests.fruits.emr_support import cluster_state, request, until
from tests.fruits.lake_support import ingest_and_fit
from tests.fruits.lease_support import jump_clock, leave_months_end
from tests.page.conftest import lake
from tests.page.scenes import (
    CHOSEN,
    LAKE,
    PROMISE,
    add_look,
    add_runs,
    busy,
    failing,
    quiet,
    run_row,
)


def read(settings: Settings) -> Readings:
    """Read the page's parts now, however long they take on a busy machine."""
    return Reader(settings, kept_seconds=0, patience=100).read()


def html(readings: Readings, settings: Settings, off: Reading[dict[str, str]] | None = None) -> str:
    """Return the page; *off* has the DAGs that are switched off."""
    values = {"data": readings, "settings": settings, "dag_id": "fruits_ingestion", "nonce": "n"}
    return render_template("page.html.jinja", values | {"off": off or Reading({})})


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Settings]:
    """Return the settings of an empty lake, beside which no EMR answers."""
    leave_months_end()
    with lake(tmp_path):
        yield load_settings(region="eu-west-3")


class TestBusy:
    """A cluster is alive."""

    @pytest.fixture(scope="class")
    def cluster_id(self, cloud: LocalCloud) -> Iterator[str]:
        """Let a batch be worked on."""
        cluster_id, emr = busy(load_settings()), boto3.client("emr")
        until(lambda: cluster_state(emr, cluster_id) == "RUNNING", 60)
        yield cluster_id
        emr.terminate_job_flows(JobFlowIds=[cluster_id])

    def test_a_cluster_is_told_with_its_time_money_and_work(
        self, cluster_id: str, settings: Settings
    ) -> None:
        """Its age against its cap, its cost against its promise, its step's progress, its token."""
        (one,) = read(settings).clusters.value or ()

        assert (one.id, one.state) == (cluster_id, "RUNNING")
        assert 0 <= one.age_share < 0.1
        assert one.lease is not None
        assert one.lease.token == one.token
        assert 0 <= (one.cost_so_far or 0) < PROMISE * 0.1
        assert one.progress is not None
        assert (one.progress.step, one.progress.done) == ("featurize", 5480)

    def test_the_page_has_its_ids_and_links(self, cluster_id: str, settings: Settings) -> None:
        """Id and token can be copied; one link leads to the console, one to the step's logs."""
        shown = html(read(settings), settings)

        assert f'<code class="id">{cluster_id}</code>' in shown
        assert f"#/clusterDetails/{cluster_id}" in shown
        assert f"prefix=logs/{cluster_id}/steps/s-" in shown
        assert "5,480 of 12,640 images, 1 min 36 s left" in shown

    def test_clusters_of_others_are_left_out(self, cluster_id: str, settings: Settings) -> None:
        """A cluster without our tag, or over another lake, is on nobody's page but its own."""
        emr = boto3.client("emr")
        foreign = [
            emr.run_job_flow(**request("foreign", **change))["JobFlowId"]
            for change in ({"Tags": []}, {"LogUri": "s3://fruits-lake/elsewhere/logs/"})
        ]

        found = read(settings).clusters.value or ()

        emr.terminate_job_flows(JobFlowIds=foreign)
        assert [one.id for one in found] == [cluster_id]

    def test_what_is_waited_for_is_not_committed_yet(
        self, cluster_id: str, settings: Settings
    ) -> None:
        """The images of the batch that is worked on are the ones that wait."""
        waits = read(settings).waiting.value

        assert waits is not None
        assert (waits.images, waits.why) == (12_640, "not committed yet")

    def test_a_given_up_cluster_is_told_as_one(self, cluster_id: str, settings: Settings) -> None:
        """A lease that was ended says that the cluster is about to end."""
        (one,) = read(settings).clusters.value or ()
        end_lease(LAKE, one.token)

        assert "Given up: it is about to end" in html(read(settings), settings)

    def test_a_cluster_whose_lease_is_garbled_is_shown(
        self, cluster_id: str, settings: Settings
    ) -> None:
        """It costs money whatever somebody wrote over its lease."""
        (one,) = read(settings).clusters.value or ()
        write_bytes(lease_uri(LAKE, one.token, 1), b"{not json")

        shown = html(read(settings), settings)

        assert cluster_id in shown
        assert "Its lease cannot be read" in shown

    def test_a_cluster_is_shown_whatever_s3_does(
        self, cluster_id: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """EMR knows that it is alive, where its lease and its progress cannot be read."""

        def denied(*_: object) -> None:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")

        monkeypatch.setattr("fruits.leases.read_lease", denied)
        monkeypatch.setattr("fruits.objects.read_json", denied)

        (one,) = read(settings).clusters.value or ()

        assert (one.id, one.is_unreadable, one.progress) == (cluster_id, True, None)

    def test_two_clusters_are_a_fault_where_one_run_has_them(
        self, cluster_id: str, settings: Settings
    ) -> None:
        """A batch from a shell may work beside that of a run."""
        emr = boto3.client("emr")
        started = [emr.run_job_flow(**request("from a shell"))["JobFlowId"]]
        two_runs = html(read(settings), settings)
        started.append(emr.run_job_flow(**request("from a shell"))["JobFlowId"])
        one_run_has_two = html(read(settings), settings)

        emr.terminate_job_flows(JobFlowIds=started)
        assert "clusters live at once" not in two_runs
        assert "3 clusters live at once" in one_run_has_two

    def test_a_cluster_without_a_cap_has_the_watchdogs(
        self, cluster_id: str, settings: Settings
    ) -> None:
        """A tag that was taken away by hand makes no red of a cluster that has just begun."""
        emr = boto3.client("emr")
        started = emr.run_job_flow(**request("without a cap"))["JobFlowId"]

        found = {one.id: one for one in read(settings).clusters.value or ()}

        emr.terminate_job_flows(JobFlowIds=[started])
        assert found[started].cap == LONGEST_CAP
        assert found[started].age_share < 0.1


def test_an_ending_cluster_still_costs_money(cloud: LocalCloud, settings: Settings) -> None:
    """Until EMR has ended it, nobody is told that nothing costs money."""
    emr, released = boto3.client("emr"), threading.Event()
    end = Programs.end
    started = emr.run_job_flow(**request("ending"))["JobFlowId"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Programs, "end", lambda *given, **more: released.wait(60) and end(*given))
        emr.terminate_job_flows(JobFlowIds=[started])
        readings = read(settings)
        released.set()

    states = {one.id: one.state for one in readings.clusters.value or ()}
    assert states[started] == "TERMINATING"
    shown = html(readings, settings)
    assert "It costs money until it has ended" in shown
    assert "Nothing costs money now" not in shown
    assert "clusters live at once" not in shown


def test_what_ended_since_it_was_listed_does_not_live(
    cloud: LocalCloud, settings: Settings
) -> None:
    """EMR is asked for the list first, and then for each cluster."""
    emr = boto3.client("emr")
    brief = emr.run_job_flow(**request("brief"))["JobFlowId"]
    pages = list(emr.get_paginator("list_clusters").paginate())
    emr.terminate_job_flows(JobFlowIds=[brief])
    until(lambda: cluster_state(emr, brief) == "TERMINATED", 60)
    listed = SimpleNamespace(paginate=lambda **_: pages)

    client = SimpleNamespace(
        **{name: getattr(emr, name) for name in ("describe_cluster", "list_steps")}
    )
    client.get_paginator = lambda _: listed
    found = live_clusters(client, settings)  # type: ignore[arg-type]

    assert brief in {one["Id"] for page in pages for one in page["Clusters"]}
    assert brief not in {one.id for one in found}


def test_an_empty_lake_says_what_to_do(empty: Settings) -> None:
    """Before the first batch nothing is missing: the page says how to have one."""
    readings = read(empty)

    assert {readings.past.trouble, readings.model.trouble, readings.waiting.trouble} == {""}
    assert readings.month.value is not None
    assert (readings.month.value.charged, readings.month.value.clusters) == (0, 0)
    shown = html(readings, empty)
    assert "Trigger the ingestion</a> to have one" in shown
    assert "There is none yet" in shown


def test_a_quiet_past(empty: Settings) -> None:
    """Twenty batches of all, the newest first; the model with its plots; the month's sum."""
    quiet(empty)

    readings = read(empty)

    past, month, model = readings.past.value, readings.month.value, readings.model.value
    assert past
    assert month
    assert model
    assert (len(past.batches), past.count) == (20, 40)
    assert past.last is not None
    times = [one.row["run_after"] for one in past.batches]
    assert times == sorted(times, reverse=True)
    assert model.description["model_version"] == f"{past.last.row['batch']}-1.1"
    assert month.charged == pytest.approx(0.17 * month.clusters)
    assert model.scree is not None
    assert model.scatter is not None
    assert readings.waiting.value is not None
    assert readings.waiting.value.images == 0


def test_the_last_batch_is_the_one_that_was_reported_last(empty: Settings) -> None:
    """A run of an old day, which was cleared or backfilled today, is news all the same."""
    quiet(empty)
    old = run_row(300, outcome="failed", failed_tasks="featurize")
    add_runs(old | {"reported_at": datetime.now(UTC)})

    past = read(empty).past.value

    assert past
    assert past.last
    assert past.last.failed == "featurize"
    assert past.last_success == past.batches[1]


def test_only_reports_that_are_kept_have_links(empty: Settings) -> None:
    """The pages of older batches went with the retention."""
    quiet(empty)

    shown = html(read(empty), empty)

    assert shown.count('class="nowrap" href="batches/') == empty.retention_days
    assert shown.count('<span class="nowrap">') == 20 - empty.retention_days


def test_the_model_is_the_current_one(empty: Settings) -> None:
    """A version of another network, however new, is shown once readers go by it."""
    from tests.page.scenes import OTHER_MODEL, add_model, make_current

    quiet(empty)
    shown = [version_shown(empty)]
    add_runs(run_row(0.1, feature_model=OTHER_MODEL, model_version="beside-1.1", beside=True))
    add_model("beside-1.1", current=False)
    shown.append(version_shown(empty))

    make_current("beside-1.1", OTHER_MODEL)

    assert shown[0] == shown[1] != "beside-1.1"
    assert version_shown(empty) == "beside-1.1"


def version_shown(settings: Settings) -> str:
    """Return the PCA version that the page shows."""
    model = read(settings).model.value
    assert model
    return str(model.description["model_version"])


def test_a_bad_month_is_told(empty: Settings) -> None:
    """A failed batch, a full month and what the watchdog ended each have their word."""
    thrifty = empty.model_copy(update=CHOSEN["failing"])
    failing(thrifty)

    readings = read(thrifty)

    assert readings.month.value is not None
    assert readings.month.value.is_full
    assert readings.month.value.unsettled == 4
    shown = " ".join(html(readings, thrifty).split())
    for told in (
        "failed: commit_features",
        "it may be refused",
        "its lease of 30 min was renewed 41 min ago",
        "not known then",
        "the last batch failed",
        "(not met)",
    ):
        assert told in shown


def test_a_price_table_that_grows_old_is_told(empty: Settings) -> None:
    """Before the day on which no cluster is created any more, and after it; not years before."""
    age = (datetime.now(UTC).date() - read_prices(empty.region).as_of).days
    told = [
        "no cluster is created with it" in html(read(chosen), empty)
        for chosen in (
            empty.model_copy(update={"prices_max_age_days": age + left}) for left in (365, 30, -1)
        )
    ]

    assert told == [False, True, True]


def test_a_part_that_cannot_be_read_is_a_gap(empty: Settings) -> None:
    """Without an EMR that answers, the rest is shown; the page names the kind of trouble alone."""
    quiet(empty)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_EMR", "http://user:hunter2@127.0.0.1:9")
        from fruits.page import readings as module

        module._emr.cache_clear()
        readings = read(empty)
        module._emr.cache_clear()

    shown = html(readings, empty)
    assert readings.clusters.trouble == "EndpointConnectionError"
    assert readings.past.trouble == ""
    assert "Cannot be read now (EndpointConnectionError)" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(("minutes", "missed"), [(4, False), (29, False), (31.5, True)])
def test_a_watchdog_that_looks_no_more_is_told_aloud(
    empty: Settings, minutes: float, missed: bool
) -> None:
    """Two looks may fail; after the third the page says so above all else, with the way out."""
    add_look(minutes)

    readings = read(empty)

    assert readings.guard.value is not None
    assert readings.guard.value.is_missed == missed
    shown = html(readings, empty)
    assert ("The watchdog last looked 31 min ago" in shown) == missed
    assert ("python -m fruits.watchdog" in shown) == missed
    assert ("The watchdog looked" in shown) != missed


def test_a_watchdog_that_never_looked_is_missed_some_time_after_a_batch(empty: Settings) -> None:
    """A new installation is no alarm; one that works without its guard for half an hour is."""
    new = html(read(empty), empty)
    add_runs(run_row(20 / (24 * 60)))  # a first batch comes before the first look
    begun = html(read(empty), empty)
    add_runs(run_row(1))
    used = html(read(empty), empty)

    for page in (new, begun):
        assert "The watchdog has not looked yet" in page
        assert 'id="unguarded"' not in page
    assert "The watchdog has never looked" in used


def test_what_the_watchdog_could_not_do_is_counted(empty: Settings) -> None:
    """Its messages may name too much for a page: they are in the log that the page leads to."""
    add_look(4, ("the lease of j-1 cannot be read: hunter2", "j-2 cannot be ended"))

    shown = html(read(empty), empty)

    assert "could not guard 2 things" in shown
    assert "hunter2" not in shown


def test_the_age_of_a_look_is_by_the_clock_of_s3(
    empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose clock is wrong raises no alarm, and misses none."""
    remember_look(LAKE, ())
    jump_clock(monkeypatch, timedelta(hours=3))

    guard = read(empty).guard.value

    assert guard is not None
    assert guard.age is not None
    assert guard.age < timedelta(minutes=1)


def test_a_look_that_cannot_be_read_is_a_gap(empty: Settings) -> None:
    """What is not known is neither an alarm nor a watchdog that looks."""
    write_bytes(look_uri(LAKE), b"[]")

    shown = html(read(empty), empty)

    assert "When the watchdog looked cannot be read now (TypeError)" in shown
    assert 'id="unguarded"' not in shown


def test_what_could_not_be_ended_is_not_among_what_was(empty: Settings) -> None:
    """A look that found two unwanted clusters and could end one says so of that one."""
    findings = [{"cluster_id": name, "token": "t", "reasons": ["old"]} for name in ("j-1", "j-2")]
    write_json(
        f"{LAKE}/ledger/findings/{datetime.now(UTC):{TIME}}-j-2.json",
        {"findings": findings, "terminated": ["j-2"]},
    )

    assert [one.cluster_id for one in read(empty).findings.value or ()] == ["j-2"]


def test_a_dag_that_is_off_is_told(empty: Settings) -> None:
    """Nobody is told of what does not run; what is not known is no alarm."""
    readings = read(empty)

    told = html(readings, empty, Reading({"fruits_ingestion": "Photographs wait."}))
    unknown = html(readings, empty, Reading(None, "OperationalError"))

    assert "fruits_ingestion is switched off.</strong> Photographs wait." in told
    assert "switched off" not in html(readings, empty)
    assert "Whether the DAGs are switched on cannot be read now (OperationalError)" in unknown
    assert "is switched off" not in unknown


def test_findings_that_cannot_be_read_are_a_gap(empty: Settings) -> None:
    """That nothing is known of what the watchdog ended does not look as if it had ended nothing."""
    failing(empty)
    write_bytes(f"{LAKE}/ledger/findings/{datetime.now(UTC):{TIME}}-j-TORN.json", b"{")

    readings = read(empty)

    assert readings.findings.trouble == "JSONDecodeError"
    shown = html(readings, empty)
    assert "Cannot be read now (JSONDecodeError)" in shown.partition('id="findings"')[2]


@pytest.mark.parametrize("name", ["notes.txt", "99999999T999999Z-j-1.json", "z/notes-1.json", "~"])
def test_what_is_no_finding_is_left_out(empty: Settings, name: str) -> None:
    """Somebody's file beside the findings hides none of them."""
    failing(empty)
    known = read(empty).findings.value
    write_bytes(f"{LAKE}/ledger/findings/{name}", b"not ours")

    assert known
    assert read(empty).findings == Reading(known)


def test_many_readers_are_one_reading(empty: Settings) -> None:
    """Within a few seconds the same answer serves everybody: EMR counts every call."""
    reader = Reader(empty, kept_seconds=60 * KEPT_SECONDS)  # a machine may be busy that long

    assert reader.read() is reader.read()
    assert Reader(empty, kept_seconds=0).read() is not reader.read()


@pytest.mark.parametrize(
    ("succeeded", "told"),
    [([], "None has succeeded yet"), ([30.5], "The last that succeeded: <span"), ([0.1], "")],
)
def test_the_age_of_the_last_success_is_told(
    empty: Settings, succeeded: list[float], told: str
) -> None:
    """However many batches failed since; where the last one succeeded it says so itself."""
    failed = [run_row(days, outcome="failed", failed_tasks="pca") for days in range(1, 25)]
    add_runs(*failed, *(run_row(days) for days in succeeded))

    shown = html(read(empty), empty).partition('id="last"')[2].partition("</article>")[0]

    assert told in shown
    assert (" succeeded" in shown) == bool(told)
    assert ("30 days ago" in shown) == (succeeded == [30.5])


def test_no_secret_is_on_the_page(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the environment's credentials is shown, whatever is read."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "a-fernet-key")
    failing(empty)

    shown = html(read(empty), empty)

    secrets = [os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"], "a-fernet-key"]
    assert not [secret for secret in secrets if secret in shown]


def test_other_peoples_text_is_text(empty: Settings) -> None:
    """Markup in a reason, a task or a key does nothing on the page."""
    add_runs(
        run_row(
            1,
            outcome="failed",
            failed_tasks="<script>alert(1)</script>",
            quarantined=1,
            quarantine_reasons='{"<img src=x onerror=alert(2)>": 1}',
            run_id='manual__"><script>alert(3)</script>',
        )
    )

    shown = html(read(empty), empty)

    assert shown.count("<script") == 1  # the page's own
    assert "<img" not in shown


def test_a_batch_from_a_shell_has_no_link_to_a_run(empty: Settings) -> None:
    """Airflow knows nothing of it: the page names the batch, and its report."""
    add_runs(run_row(1, outcome="failed", failed_tasks="featurize", run_id=None))

    shown = html(read(empty), empty)

    assert "failed: featurize" in shown
    assert ">Report</a>" in shown
    assert "/runs/" not in shown


def test_what_is_read_does_not_grow_with_the_images(empty: Settings) -> None:
    """The page asks for the same few objects, whether the tables hold ten images or millions."""
    from fruits.lake import open_catalog
    from fruits.objects import client

    asked: list[str] = []
    ingest_and_fit(open_catalog(), "b1", "Apple/1.jpg", "Apple/2.jpg", "Banana/1.jpg")
    quiet(empty)

    def note(params: Any, **_: Any) -> None:
        asked.append(str(params.get("Prefix") or params.get("Key") or ""))

    client().meta.events.register("before-parameter-build.s3", note)
    read(empty)
    client().meta.events.unregister("before-parameter-build.s3", note)

    large = ("tables/features/", "tables/components/", "tables/quarantine/", "manifests/")
    found = [key for key in asked if key.startswith((*large, "attempts/"))]
    # What is current is a property: in the one file in which a table begins.
    assert [key for key in found if not key.endswith(".metadata.json")] == []
    assert len(found) <= 2
    assert [key for key in asked if key.startswith("tables/runs/")]
    assert {key.split("/")[0] for key in asked if key} == {"ledger", "models", "sensings", "tables"}
