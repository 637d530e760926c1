"""The images themselves, with the versions that the bucket keeps of what was deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from botocore.exceptions import ClientError

from fruits.objects import client, exists
from fruits.stored import delete_all


def delete_originals(bucket: str, keys: Sequence[str]) -> int:
    """Delete every version of the objects *keys*; return how many there were.

    Raises UndeletedError if somebody may not: a run's own role must not delete images.
    """
    doomed = versions_of(bucket, keys)
    delete_all(bucket, doomed)
    return len(doomed)


def versions_of(bucket: str, keys: Sequence[str]) -> list[dict[str, str]]:
    """Return Key, and VersionId where there are versions, of all that *bucket* keeps of *keys*."""
    try:
        return [one for key in keys for one in versions(bucket, key) if one["Key"] == key]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotImplemented":
            raise
        # A store that knows no versions keeps none.
        return [{"Key": key} for key in keys if exists(f"s3://{bucket}/{key}")]


def versions(bucket: str, prefix: str = "") -> Iterator[dict[str, str]]:
    """Yield Key and VersionId of all that *bucket* keeps under *prefix*, old versions too.

    So do the markers that stand for deleted objects: they name them.
    """
    pages = client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            yield {"Key": found["Key"], "VersionId": found["VersionId"]}
