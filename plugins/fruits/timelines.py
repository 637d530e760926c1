"""When what happened on a batch's clusters, as EMR remembers it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient


@dataclass(frozen=True)
class Span:
    """Something that took from *start* to *end*; *kind* is run, cluster, start or step."""

    name: str
    kind: str
    start: datetime
    end: datetime
    failed: bool = False

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start).total_seconds()


def cluster_spans(
    client: EMRClient, cluster_ids: Sequence[str], batch: str, now: datetime
) -> tuple[Span, ...]:
    """Return the start-up, the steps and the whole life of each cluster, in order of time.

    What has not ended yet ends *now*; what never began has no span.
    """
    spans = [span for one in cluster_ids for span in _of_cluster(client, one, batch, now)]
    return tuple(sorted(spans, key=lambda span: (span.start, span.kind)))


def _of_cluster(client: EMRClient, cluster_id: str, batch: str, now: datetime) -> Iterator[Span]:
    status = client.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
    timeline = status["Timeline"]
    created, ended = timeline["CreationDateTime"], timeline.get("EndDateTime", now)
    failed = status["State"] == "TERMINATED_WITH_ERRORS"
    yield Span(f"cluster {cluster_id}", "cluster", created, ended, failed)
    ready = timeline.get("ReadyDateTime")
    yield Span("starting", "start", created, ready or ended, failed and not ready)
    pages = client.get_paginator("list_steps").paginate(ClusterId=cluster_id)
    for step in (step for page in pages for step in page["Steps"]):
        yield from _of_step(step, batch, now)


def _of_step(step: Any, batch: str, now: datetime) -> Iterator[Span]:
    timeline, state = step["Status"].get("Timeline", {}), step["Status"]["State"]
    if begun := timeline.get("StartDateTime"):
        name = step["Name"].replace(f" {batch} ", " ")
        yield Span(name, "step", begun, timeline.get("EndDateTime", now), state == "FAILED")
