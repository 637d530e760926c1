"""Small objects and Parquet files in S3, by URI: what the driver and the writers read and write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import obstore
import pyarrow.parquet as pq
from obstore.store import S3Store
from pyarrow import fs

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PATIENCE = 120.0  # seconds for all attempts of a request
SILENCE = 30.0  # seconds without a byte after which an answer is taken for lost


def split_uri(uri: str) -> tuple[str, str]:
    """Return (bucket, raw key) of s3://bucket/key; ValueError if it is not one."""
    bucket, slash, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not slash:
        raise ValueError(f"{uri!r} is not s3://<bucket>/<key>")
    return bucket, key


@lru_cache(maxsize=16)
def bucket_store(bucket: str, region: str, retries: int = 8, patience: float = PATIENCE) -> S3Store:
    """Return this process' client of *bucket*; endpoint and credentials come from the environment.

    Errors of the server (5xx) and of the connection, and a server that says nothing for SILENCE,
    are tried again *retries* times, but not when *patience* seconds have passed.
    """
    retry: RetryConfig = {
        "max_retries": retries,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=10),
            "base": 2,
        },
        "retry_timeout": timedelta(seconds=patience),
    }
    client: ClientConfig = {
        "timeout": timedelta(seconds=120),  # of one attempt, whole: a large photo takes long
        "read_timeout": timedelta(seconds=min(SILENCE, patience)),
        "connect_timeout": timedelta(seconds=min(10.0, patience)),
        # obstore looks for this variable only while it is given no options of the client.
        "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",
    }
    return S3Store(bucket, region=region, retry_config=retry, client_options=client)


def read_bytes(uri: str, region: str) -> bytes:
    """Return the whole object; FileNotFoundError naming *uri* if there is none."""
    bucket, key = split_uri(uri)
    try:
        return bytes(obstore.get(bucket_store(bucket, region), key).bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no object {uri}") from error


def write_bytes(uri: str, data: bytes, region: str, patience: float = PATIENCE) -> None:
    """Write *data* as the object *uri*, whole or not at all; see bucket_store for *patience*."""
    bucket, key = split_uri(uri)
    obstore.put(bucket_store(bucket, region, patience=patience), key, data)


def read_json(uri: str, region: str) -> Any:
    """Return the parsed content of a JSON object; ValueError naming *uri* if it is not JSON."""
    try:
        return json.loads(read_bytes(uri, region))
    except ValueError as error:
        raise ValueError(f"{uri} is not JSON: {error}") from error


def write_json(uri: str, content: object, region: str, patience: float = PATIENCE) -> None:
    """Write *content* as indented JSON; see bucket_store for *patience*."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(uri, f"{text}\n".encode(), region, patience)


@lru_cache(maxsize=2)
def filesystem(region: str) -> fs.S3FileSystem:
    """Return this process' Arrow client, for Parquet: ranged reads and uploads in parts.

    obstore insists on status 206 for a range, which not every S3 server sends.
    """
    # Arrow knows AWS_ENDPOINT_URL but not the variable of the service.
    return fs.S3FileSystem(
        region=region,
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL_S3"),
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=10),
    )


@contextmanager
def open_parquet(uri: str, region: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet object; only the columns and row groups that are read are fetched.

    OSError naming *uri* if it cannot be opened, FileNotFoundError if there is none.
    """
    bucket, key = split_uri(uri)
    try:
        source = filesystem(region).open_input_file(f"{bucket}/{key}")
    except OSError as error:
        raise type(error)(f"{uri} cannot be read: {error}") from error
    with source, pq.ParquetFile(source, pre_buffer=True) as file:
        yield file


def open_output(uri: str, region: str) -> Any:
    """Return a stream that becomes the object *uri* when it is closed, uploaded as it grows."""
    bucket, key = split_uri(uri)
    return filesystem(region).open_output_stream(f"{bucket}/{key}")
