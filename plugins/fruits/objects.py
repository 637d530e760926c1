"""Objects in S3: the clients, found by the standard environment, and whole-object reads and writes.

Keys are used raw: nothing here encodes or decodes a percent sign.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from fruits.errors import MissingObjectError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Config


ABSENT = {"NoSuchKey", "404", "NoSuchBucket"}


def split_uri(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of ``s3://bucket/key``; the key may be empty; ValueError if not S3."""
    scheme, separator, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not separator or scheme not in {"s3", "s3a"} or not bucket:
        raise ValueError(f"{uri!r} is not of the form s3://bucket/key")
    return bucket, key


def client(region: str | None = None) -> S3Client:
    """Return the S3 client of this process's environment; it may be shared by threads."""
    return _client(os.environ.get("AWS_ENDPOINT_URL_S3"), region)


@functools.cache
def _client(endpoint: str | None, region: str | None) -> S3Client:
    config = Config(
        connect_timeout=10,
        read_timeout=30,  # of silence: an answer that was lost holds a task no longer
        # Every call made through it is idempotent, so retrying is always right.
        retries={"mode": "standard", "max_attempts": 8},
    )
    return boto3.client("s3", region_name=region, endpoint_url=endpoint, config=config)


def store(bucket: str) -> S3Store:
    """Return obstore's view of *bucket*, with boto3's credentials: it knows no profiles itself.

    Without any it has none of its own either, and is refused as boto3 is.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3")
    # None, which says that it is AWS's own, is refused.
    config: S3Config = {"endpoint": endpoint} if endpoint else {}
    # That of a profile, too, of which it knows nothing; without any it is botocore's "aws-global".
    if (region := client().meta.region_name) != "aws-global":
        config["region"] = region
    return S3Store(bucket, config=config, credential_provider=_credentials())


@functools.cache
def _credentials() -> Boto3CredentialProvider | None:
    try:
        # boto3 renews what is valid for less than a quarter of an hour: what it says lasts so long.
        return Boto3CredentialProvider(ttl=timedelta(minutes=10))
    except ValueError:
        return None


def read_bytes(uri: str) -> bytes:
    """Return the content of *uri*; MissingObjectError if there is none."""
    bucket, key = split_uri(uri)
    try:
        return client().get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            raise missing(uri) from error
        raise


def read_json(uri: str) -> dict[str, Any]:
    """Return the JSON object at *uri*; MissingObjectError if there is none."""
    content: dict[str, Any] = json.loads(read_bytes(uri))
    return content


def read_json_and_age(uri: str) -> tuple[dict[str, Any], timedelta]:
    """Return the JSON object at *uri* and how long ago it was written, by the clock of S3 alone.

    The clock of this machine may be wrong. Raises MissingObjectError if there is no such object.
    """
    bucket, key = split_uri(uri)
    try:
        answer = client().get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            raise missing(uri) from error
        raise
    content: dict[str, Any] = json.loads(answer["Body"].read())
    return content, answer_time(answer) - answer["LastModified"]


def storage_time(uri: str) -> datetime:
    """Return what the clock of S3 shows, to the second; *uri* is anything in a bucket of ours."""
    return answer_time(client().head_bucket(Bucket=split_uri(uri)[0]))


def bucket_region(uri: str) -> tuple[str, str | None]:
    """Return the bucket of *uri* and the AWS region where it is; None if the store does not say."""
    bucket = split_uri(uri)[0]
    return bucket, client().head_bucket(Bucket=bucket).get("BucketRegion")


def answer_time(answer: Mapping[str, Any]) -> datetime:
    """Return when AWS gave this *answer*, by its own clock; without that, what ours shows."""
    sent = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(sent).astimezone(UTC) if sent else datetime.now(UTC)


def write_json(uri: str, content: dict[str, Any]) -> None:
    """Write *content* to *uri*, readable for people, replacing what was there."""
    bucket, key = split_uri(uri)
    body = json.dumps(content, indent=1, ensure_ascii=False).encode()
    client().put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")


def delete(uri: str) -> None:
    """Delete the object *uri*, if there is one."""
    bucket, key = split_uri(uri)
    client().delete_object(Bucket=bucket, Key=key)


def list_uris(prefix: str, after: str = "") -> list[str]:
    """Return the URIs of all objects whose URI begins with *prefix*, in the order of their keys.

    Those up to and including the key *prefix* + *after* are left out, without being listed.
    """
    bucket, start = split_uri(prefix)
    begin = f"{start}{after}" if after else ""
    paginator = client().get_paginator("list_objects_v2")
    pages = paginator.paginate(Bucket=bucket, Prefix=start, StartAfter=begin)
    return [f"s3://{bucket}/{found['Key']}" for page in pages for found in page.get("Contents", [])]


def list_versions(prefix: str) -> dict[str, str]:
    """Return the etag of every object whose URI begins with *prefix*, by its URI."""
    bucket, start = split_uri(prefix)
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
    found = [one for page in pages for one in page.get("Contents", [])]
    return {f"s3://{bucket}/{one['Key']}": one["ETag"] for one in found}


def write_bytes(uri: str, content: bytes, region: str | None = None) -> None:
    """Write *content* to *uri*, replacing what was there."""
    bucket, key = split_uri(uri)
    client(region).put_object(Bucket=bucket, Key=key, Body=content)


def write_html(uri: str, content: str) -> None:
    """Write a page to *uri*, replacing what was there; a browser shows it as one."""
    bucket, key = split_uri(uri)
    kind = "text/html; charset=utf-8"
    client().put_object(Bucket=bucket, Key=key, Body=content.encode(), ContentType=kind)


def size(uri: str, region: str | None = None) -> int:
    """Return the length in bytes of *uri*; MissingObjectError if there is none."""
    bucket, key = split_uri(uri)
    try:
        return client(region).head_object(Bucket=bucket, Key=key)["ContentLength"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            raise missing(uri) from error
        raise


def exists(uri: str, region: str | None = None) -> bool:
    """Say whether there is an object *uri*."""
    try:
        size(uri, region)
    except MissingObjectError:
        return False
    return True


def upload(path: Path, uri: str) -> None:
    """Write the local file to *uri*, in parts when it is large."""
    bucket, key = split_uri(uri)
    client().upload_file(str(path), bucket, key)


def download(uri: str, path: Path) -> Path:
    """Write the object to the local *path* and return it; MissingObjectError if there is none."""
    bucket, key = split_uri(uri)
    try:
        client().download_file(bucket, key, str(path))
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            raise missing(uri) from error
        raise
    return path


def missing(uri: str) -> MissingObjectError:
    """Return the error that says that *uri* has to be there and is not."""
    return MissingObjectError(
        f"There is no object {uri}.",
        "The task that writes it did not finish: clear it (and what follows) and run again.",
        uri=uri,
    )
