"""What lies in the lake: every object with its age and size, and how many of them go at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from fruits.errors import FruitsError
from fruits.objects import client, split_uri

AT_ONCE = 1000  # S3 takes no more keys in one DeleteObjects


class UndeletedError(FruitsError):
    """S3 did not delete what it was asked to; fields: uris, reason."""

    transient = True
    uris: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Stored:
    """An object: its URI, when it was last written (S3's clock), and its size in bytes."""

    uri: str
    modified: datetime
    bytes: int


def stored(prefix: str) -> Iterator[Stored]:
    """Yield the objects whose URI begins with *prefix*, in the order of their keys."""
    bucket, start = split_uri(prefix)
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
    for page in pages:
        for found in page.get("Contents", []):
            yield Stored(f"s3://{bucket}/{found['Key']}", found["LastModified"], found["Size"])


def delete_all(bucket: str, keys: Sequence[dict[str, str]]) -> None:
    """Delete the *keys* of *bucket*: each {"Key": ...}, with its VersionId where that is meant.

    What is not there counts as deleted. Raises UndeletedError with what S3 kept, and why.
    """
    for start in range(0, len(keys), AT_ONCE):
        chunk = {"Objects": list(keys[start : start + AT_ONCE]), "Quiet": True}
        answer = client().delete_objects(Bucket=bucket, Delete=chunk)  # type: ignore[arg-type]
        if errors := answer.get("Errors"):
            reason = f"{errors[0].get('Code')}: {errors[0].get('Message')}"
            raise UndeletedError(
                f"S3 did not delete {len(errors)} objects of s3://{bucket} ({reason}).",
                "Who does this needs s3:DeleteObject there; then do it again.",
                uris=tuple(f"s3://{bucket}/{error.get('Key')}" for error in errors),
                reason=reason,
            )
