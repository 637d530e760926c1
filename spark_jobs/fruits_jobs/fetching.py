"""Reading one version of one image from S3: its bytes, or that it changed, or a clear failure."""

from __future__ import annotations

import io
import random
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import obstore
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from fruits_jobs.objects import SILENCE, bucket_store, split_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECTION_RETRIES = 4  # by the client itself, within one of our attempts
LARGE_BYTES = 8 << 20  # from here on an object is read in pieces of as many
PATIENCE = 30.0  # seconds after which an attempt of ours is made no longer by the client's retries


@dataclass(frozen=True)
class Retry:
    """How often a failing read is tried; by default its pauses are at most 0.5, 1, 2, 4 and 8 s."""

    attempts: int = 6
    first_pause: float = 0.5

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait after failed *attempt* (1, 2, ...), with jitter."""
        jitter = random.uniform(0.5, 1)  # noqa: S311  (spreads requests; no secret)
        return float(self.first_pause * 2 ** (attempt - 1) * jitter)


class Changed(Exception):  # noqa: N818  (an outcome, not an error)
    """The image is no longer the version that was listed; *reason* is changed or vanished."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ReadFailed(Exception):  # noqa: N818  (reads as a sentence in a log)
    """S3 would not give an image: *bucket*, *key* and its last *response*."""

    def __init__(self, bucket: str, key: str, response: str, attempts: int) -> None:
        super().__init__(
            f"cannot read s3://{bucket}/{key!r} after {attempts} attempts;"
            f" the last response was: {response}"
        )
        self.bucket, self.key, self.response = bucket, key, response


class Refused(ReadFailed):
    """S3 would refuse an image again: *trouble* says why, *way_out* what to do."""

    trouble: ClassVar[str]
    way_out: ClassVar[str]

    def __init__(self, bucket: str, key: str, response: str) -> None:
        message = f"{self.trouble} s3://{bucket}/{key!r}: {response}. {self.way_out}"
        Exception.__init__(self, message)
        self.bucket, self.key, self.response = bucket, key, response


class AccessDenied(Refused):
    """The role may not read the image."""

    trouble = "access denied on"
    way_out = "Allow s3:GetObject on this bucket to the cluster's instance profile"


class Archived(Refused):
    """The image lies in an archive, from which it has to be restored before it can be read."""

    trouble = "cannot read the archived"
    way_out = (
        "Restore it (aws s3api restore-object), or move what is archived out of the prefix of the"
        " images"
    )


class _TryAgain(Exception):  # noqa: N818
    """A failure that the next attempt may not see."""


@dataclass(frozen=True)
class Answer:
    """What a GET returned: the body, and the quoted *etag*."""

    data: bytes
    etag: str | None


@dataclass(frozen=True)
class Fetcher:
    """Reads images of one region."""

    region: str
    retry: Retry = Retry()

    def fetch(self, uri: str, etag: str, size: int) -> bytes:
        """Return the *size* bytes of the version *etag* (unquoted) of the object *uri*.

        Raises Changed if there is another version or none, Refused at once, and ReadFailed if there
        is no such bucket, or when the last attempt failed too.
        """
        bucket, key = split_uri(uri)
        get = _get_plain if plain(key) else _get_odd
        for attempt in range(1, self.retry.attempts + 1):
            try:
                return _checked(get(bucket, key, etag, self.region), etag, size)
            except _TryAgain as error:
                if attempt == self.retry.attempts:
                    raise ReadFailed(bucket, key, str(error), attempt) from error
                time.sleep(self.retry.pause(attempt))
        raise AssertionError("a fetcher makes at least one attempt")


def plain(key: str) -> bool:
    """Say whether obstore reads just this *key*: one without empty segments, dots or controls."""
    segments = key.split("/")
    printable = all(32 <= ord(character) != 127 for character in key)
    return printable and not any(segment in ("", ".", "..") for segment in segments)


def _checked(answer: Answer, etag: str, size: int) -> bytes:
    if answer.etag is None:
        raise _TryAgain("the answer has no ETag")
    # Some servers ignore If-Match, so the answer's own tag has the last word.
    if answer.etag.strip('"') != etag:
        raise Changed("changed")
    if len(answer.data) != size:
        raise _TryAgain(f"{len(answer.data)} bytes came instead of {size}")
    return answer.data


def _get_plain(bucket: str, key: str, etag: str, region: str) -> Answer:
    try:
        store = bucket_store(bucket, region, CONNECTION_RETRIES, PATIENCE)
        result = obstore.get(store, key, options={"if_match": f'"{etag}"'})
        return Answer(_body(result), result.meta["e_tag"])
    except PreconditionError:
        raise Changed("changed") from None
    except FileNotFoundError as error:
        raise _missing(bucket, key, str(error)) from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise _refused(bucket, key, _first_line(error)) from error
    except (BaseError, OSError) as error:
        raise _TryAgain(_first_line(error)) from error


def _body(result: obstore.GetResult) -> bytes:
    """Return all bytes of an answer; of a large one no second copy is held on the way."""
    if result.meta["size"] <= LARGE_BYTES:
        return bytes(result.bytes())
    body = io.BytesIO()
    for chunk in result.stream(min_chunk_size=LARGE_BYTES):
        body.write(chunk)
    return body.getvalue()


def _get_odd(bucket: str, key: str, etag: str, region: str) -> Answer:
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        answer = _boto3_client(region).get_object(Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        return Answer(answer["Body"].read(), answer.get("ETag"))
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 412:
            raise Changed("changed") from None
        if status == 404:
            raise _missing(bucket, key, str(error)) from None
        if status in (401, 403):
            raise _refused(bucket, key, str(error)) from error
        raise _TryAgain(str(error)) from error
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise _TryAgain(_first_line(error)) from error


def _refused(bucket: str, key: str, response: str) -> Exception:
    if "InvalidObjectState" in response:
        return Archived(bucket, key, response)
    if "RequestTimeTooSkewed" in response:  # a node's clock jumped, and will be set right
        return _TryAgain(response)
    return AccessDenied(bucket, key, response)


def _missing(bucket: str, key: str, response: str) -> Exception:
    if "NoSuchBucket" in response:  # a mistyped or deleted bucket is no reason to skip its images
        return ReadFailed(bucket, key, "NoSuchBucket", 1)
    return Changed("vanished")


def _first_line(error: BaseException) -> str:
    """Return the error on one line, without the dump of structures that obstore appends."""
    text = str(error).split("\n\nDebug source")[0]
    return " ".join(text.split()) or type(error).__name__


@lru_cache(maxsize=4)
def _boto3_client(region: str) -> S3Client:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=10,
        read_timeout=SILENCE,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    # A session of its own: boto3's default one must not make clients in several threads at once.
    return boto3.Session().client("s3", region_name=region, config=config)
