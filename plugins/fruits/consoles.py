"""Addresses of AWS's console: where a person looks at what a task names by id."""

from __future__ import annotations

from urllib.parse import quote

CONSOLE = "https://{region}.console.aws.amazon.com"


def cluster_url(region: str, cluster_id: str) -> str:
    """Return the page of one EMR cluster."""
    return f"{_console(region)}/emr/home?region={region}#/clusterDetails/{quote(cluster_id)}"


def folder_url(region: str, uri: str) -> str:
    """Return the page that lists what lies under the folder *uri* (s3://bucket/prefix/)."""
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    shown = f"&prefix={quote(prefix)}" if prefix else ""
    return f"{_console(region)}/s3/buckets/{quote(bucket)}?region={region}{shown}"


def _console(region: str) -> str:
    return CONSOLE.format(region=region)
