"""When what happened on a cluster: from EMR's own records of a cluster that really ran."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fruits.lifecycle import terminate_cluster
from fruits.timelines import cluster_spans
from tests.fruits.emr_support import POLL, request, step, step_state, until

BATCH = "20261121T030000-1a2b3c4d"


def test_a_cluster_has_its_start_its_steps_and_its_end(emr: Any) -> None:
    """In order of time: the whole life, the start, each step that began; failures are marked."""
    steps = [step("true", f"featurize {BATCH} 1.1"), step("false", f"pca {BATCH} 1.1")]
    cluster_id = emr.run_job_flow(**request(BATCH, Steps=steps))["JobFlowId"]
    last = emr.list_steps(ClusterId=cluster_id)["Steps"][0]["Id"]
    until(lambda: step_state(emr, cluster_id, last) == "FAILED")
    alive = cluster_spans(emr, [cluster_id], BATCH, datetime.now(UTC))
    terminate_cluster(emr, cluster_id, poll=POLL)

    later = datetime.now(UTC) + timedelta(days=1000)
    spans = cluster_spans(emr, [cluster_id], BATCH, later)

    assert [span.name for span in spans] == [
        f"cluster {cluster_id}",
        "starting",
        "featurize 1.1",
        "pca 1.1",
    ]
    assert [span.failed for span in spans] == [False, False, False, True]
    assert [span.name for span in alive] == [span.name for span in spans]
    whole = spans[0]
    assert all(whole.start <= span.start <= span.end <= whole.end for span in spans)
    assert whole.end < later


def test_without_clusters_nothing_happened(emr: Any) -> None:
    """A batch that needed no cluster asks EMR nothing."""
    assert cluster_spans(emr, [], BATCH, datetime.now(UTC)) == ()
