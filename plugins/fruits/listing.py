"""Every object under a prefix, exactly once, as Arrow batches: folders in parallel.

A prefix is a string, as in S3: `fruits/App` covers `fruits/Apple/1.jpg` and `fruits/App.jpg`.
obstore lists a folder without making a Python object per key, but it refuses some keys (control
characters, empty segments) and drops the trailing slash of directory markers. A folder in which it
meets either is listed again through boto3, which takes every key as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import obstore
import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError as ObstoreError

from fruits.errors import LASTING, ListingError
from fruits.objects import client, store

log = logging.getLogger(__name__)

OBJECTS = pa.schema(
    {
        "image_key": pa.string(),
        "etag": pa.string(),
        "size_bytes": pa.int64(),
        "last_modified": pa.timestamp("us", tz="UTC"),
    }
)
FOLDERS_AT_ONCE = 8


class UnspeakableKeyError(Exception):
    """obstore cannot say a key of this folder as S3 has it."""


class Sink(Protocol):
    """Where listed objects go; it is called from several threads at once."""

    def add(self, folder: str, batch: pa.RecordBatch) -> None:
        """Take some objects of *folder*, with the columns of OBJECTS and unquoted etags."""

    def forget(self, folder: str) -> None:
        """Drop what was taken of *folder*: it is listed again from its beginning."""


def list_objects(bucket: str, prefix: str, sink: Sink) -> None:
    """Send every object under *prefix* to *sink*, once; ListingError unless it is complete.

    Half a listing would look like deletions, so any error that outlasts the clients' own retries
    fails the whole. Directory markers (keys that end in a slash) are left out.
    """
    try:
        with ThreadPoolExecutor(FOLDERS_AT_ONCE, thread_name_prefix="list") as pool:
            folders: list[Future[None]] = []
            try:
                for page in _pages(bucket, prefix, Delimiter="/"):
                    sink.add(prefix, _to_arrow(page))
                    folders.extend(
                        pool.submit(_list_folder, bucket, common["Prefix"], sink)
                        for common in page.get("CommonPrefixes", [])
                    )
                for folder in folders:
                    folder.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except (BotoCoreError, ClientError, OSError) as error:
        raise ListingError(
            f"Listing s3://{bucket}/{prefix} failed before its end: {error}.",
            "Nothing was changed. Check the bucket's name, its permissions and the network, then"
            " run the sensing again.",
            bucket=bucket,
            prefix=prefix,
            transient=not _is_lasting(error),
        ) from error


def _is_lasting(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in LASTING


def _list_folder(bucket: str, folder: str, sink: Sink) -> None:
    try:
        for batch in _fast_batches(bucket, folder):
            sink.add(folder, batch)
    except (UnspeakableKeyError, ObstoreError, ValueError) as error:
        # ValueError is what obstore raises for a folder's name that it cannot parse.
        log.info("Listing s3://%s/%s again, key by key: %s", bucket, folder, error)
        sink.forget(folder)
        for page in _pages(bucket, folder):
            sink.add(folder, _to_arrow(page))


def _fast_batches(bucket: str, folder: str) -> Iterator[pa.RecordBatch]:
    rows = 0
    for chunk in obstore.list(store(bucket), folder, chunk_size=10_000, return_arrow=True):
        batch = _from_obstore(pa.record_batch(chunk), folder)
        rows += batch.num_rows
        yield batch
    if not rows:
        # The folder was named because a key begins with it, so an empty answer is suspect.
        raise UnspeakableKeyError("obstore finds nothing in it")


def _from_obstore(chunk: pa.RecordBatch, folder: str) -> pa.RecordBatch:
    own_marker = pc.equal(chunk["path"], pa.scalar(folder.removesuffix("/")))
    chunk = chunk.filter(pc.invert(own_marker))
    if not pc.all(pc.starts_with(chunk["path"], folder)).as_py():
        raise UnspeakableKeyError("obstore names keys that are not in it")
    if pc.any(pc.equal(chunk["size"].cast(pa.int64()), pa.scalar(0))).as_py():
        raise UnspeakableKeyError("an object without bytes may be a directory marker")
    columns = [
        chunk["path"],
        pc.utf8_trim(chunk["e_tag"], '"'),
        chunk["size"].cast(pa.int64()),
        chunk["last_modified"],
    ]
    return pa.record_batch(columns, schema=OBJECTS)


def _pages(bucket: str, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
    paginator: Any = client().get_paginator("list_objects_v2")
    yield from paginator.paginate(Bucket=bucket, Prefix=prefix, **options)


def _to_arrow(page: dict[str, Any]) -> pa.RecordBatch:
    objects = [item for item in page.get("Contents", []) if not item["Key"].endswith("/")]
    columns = [
        [item["Key"] for item in objects],
        [item["ETag"].strip('"') for item in objects],
        [item["Size"] for item in objects],
        [item["LastModified"] for item in objects],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, OBJECTS, strict=True)]
    return pa.record_batch(arrays, schema=OBJECTS)
