"""What DescribeCluster answers of a cluster: its tags, the lake that it works for, its age."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any


def tags_of(cluster: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the cluster's tags by their keys."""
    return {tag.get("Key", ""): tag.get("Value", "") for tag in cluster.get("Tags", [])}


def lake_of(cluster: Mapping[str, Any]) -> str | None:
    """Return the lake of the deployment that made the cluster, or None if its logs do not say."""
    folder = logs_of(cluster).removesuffix("/")
    return folder.removesuffix("/logs") if folder.endswith("/logs") else None


def logs_of(cluster: Mapping[str, Any]) -> str:
    """Return the folder of the cluster's logs, ending in a slash; empty without one."""
    _, found, path = cluster.get("LogUri", "").partition("://")
    # EMR gives the scheme back as s3n.
    return f"s3://{path.rstrip('/')}/" if found else ""


def age_in(answer: Mapping[str, Any]) -> timedelta:
    """Return how old the cluster was when EMR gave this *answer*, by EMR's clock.

    Ours may be wrong.
    """
    from fruits.objects import answer_time

    created: datetime = answer["Cluster"]["Status"]["Timeline"]["CreationDateTime"]
    # The answer's date has no fractions of a second, the creation has.
    return max(answer_time(answer) - created, timedelta(0))
