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
    try:
        doomed = [version for key in keys for version in _versions(bucket, key)]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotImplemented":
            raise
        # A store that knows no versions keeps none.
        doomed = [{"Key": key} for key in keys if exists(f"s3://{bucket}/{key}")]
    delete_all(bucket, doomed)
    return len(doomed)


def _versions(bucket: str, key: str) -> Iterator[dict[str, str]]:
    pages = client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
    for page in pages:
        # The markers that stand for deleted objects name them, too.
        for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            if found["Key"] == key:
                yield {"Key": key, "VersionId": found["VersionId"]}
