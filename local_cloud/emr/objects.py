"""The endpoint's own way to S3: it fetches bootstrap scripts and brings logs, through the API."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Objects:
    """Objects named by s3:// URIs, at the endpoint and with the keys of *environment*."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def get(self, uri: str) -> bytes:
        """Return the bytes of *uri*; botocore's ClientError when it does not exist."""
        bucket, key = split(uri)
        return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def put(self, uri: str, content: bytes) -> None:
        """Write *content* as *uri*."""
        bucket, key = split(uri)
        self._client.put_object(Bucket=bucket, Key=key, Body=content)

    @cached_property
    def _client(self) -> S3Client:
        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=self._environment["AWS_ENDPOINT_URL_S3"],
            region_name=self._environment["AWS_REGION"],
            aws_access_key_id=self._environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self._environment["AWS_SECRET_ACCESS_KEY"],
            # Logs must not hold a step back for long when S3 does not answer.
            config=Config(
                connect_timeout=2,
                read_timeout=10,
                retries={"total_max_attempts": 3},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
                proxies={},
            ),
        )
        return client


def split(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
