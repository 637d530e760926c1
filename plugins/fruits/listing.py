"""Every object under a prefix, exactly once, as Arrow batches: spans of folders in parallel.

A prefix is a string, as in S3: `fruits/App` covers `fruits/Apple/1.jpg` and `fruits/App.jpg`.
obstore lists a span without making a Python object per key, but it refuses some keys (control
characters, empty segments) and drops the trailing slash of directory markers. A span in which it
meets either is listed again through boto3, which takes every key as it is.

A listing sends a request for each 1,000 keys, one for each 1,000 folders and objects between them,
and at most one more for each span. Spans that are listed again count twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import obstore
import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError as ObstoreError

from fruits.errors import LASTING, ListingError
from fruits.objects import client, store
from fruits.spans import Span, UnsortedError, spans

log = logging.getLogger(__name__)

OBJECTS = pa.schema(
    {
        "image_key": pa.string(),
        "etag": pa.string(),
        "size_bytes": pa.int64(),
        "last_modified": pa.timestamp("us", tz="UTC"),
    }
)
SPANS_AT_ONCE = 8
KEYS_PER_PAGE = 1000  # as S3 answers: a larger chunk would ask for what is beyond a span's end


class UnspeakableKeyError(Exception):
    """obstore cannot say a key of this span as S3 has it."""


class Sink(Protocol):
    """Where listed objects go; it is called from several threads at once."""

    def add(self, span: str, batch: pa.RecordBatch) -> None:
        """Take some objects of *span*, with the columns of OBJECTS and unquoted etags."""

    def forget(self, span: str) -> None:
        """Drop what was taken of *span*: it is listed again from its beginning."""


def list_objects(bucket: str, prefix: str, sink: Sink) -> None:
    """Send every object under *prefix* to *sink*, once; ListingError unless it is complete.

    Half a listing would look like deletions, so any error that outlasts the clients' own retries
    fails the whole. Directory markers (keys that end in a slash) are left out.
    """
    try:
        with ThreadPoolExecutor(SPANS_AT_ONCE, thread_name_prefix="list") as pool:
            listed: list[Future[None]] = []
            try:
                listed.extend(
                    pool.submit(_list_span, bucket, span, sink)
                    for span in spans(prefix, _folders(bucket, prefix, sink))
                )
                for one in listed:
                    one.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except (BotoCoreError, ClientError, OSError, UnsortedError) as error:
        raise ListingError(
            f"Listing s3://{bucket}/{prefix} failed before its end: {error}.",
            "Nothing was changed. Check the bucket's name, its permissions and the network, then"
            " run the sensing again.",
            bucket=bucket,
            prefix=prefix,
            transient=not _is_lasting(error),
        ) from error


def _is_lasting(error: Exception) -> bool:
    if isinstance(error, UnsortedError):
        return True
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in LASTING


def _folders(bucket: str, prefix: str, sink: Sink) -> Iterator[str]:
    """Yield the folders right under *prefix*, and send the objects between them to *sink*."""
    for page in _pages(bucket, prefix, Delimiter="/"):
        sink.add(prefix, _to_arrow(page))
        yield from (common["Prefix"] for common in page.get("CommonPrefixes", []))


def _list_span(bucket: str, span: Span, sink: Sink) -> None:
    try:
        for batch in _fast_batches(bucket, span):
            sink.add(span.name, batch)
    except (UnspeakableKeyError, UnsortedError, ObstoreError, ValueError) as error:
        # ValueError is what obstore raises for a folder's name that it cannot parse.
        log.info("Listing span %s of s3://%s again, key by key: %s", span.name, bucket, error)
        sink.forget(span.name)
        pages = _pages(bucket, span.prefix, StartAfter=span.after)
        for batch in _within(map(_to_arrow, pages), span):
            sink.add(span.name, batch)


def _fast_batches(bucket: str, span: Span) -> Iterator[pa.RecordBatch]:
    if span.after.startswith("/"):
        raise UnspeakableKeyError("obstore drops a leading slash")
    chunks = obstore.list(
        store(bucket),
        span.prefix[: span.prefix.rfind("/") + 1],  # obstore's prefixes are whole folders
        offset=span.after or None,
        chunk_size=KEYS_PER_PAGE,
        return_arrow=True,
    )
    rows = 0
    for batch in _within((_from_obstore(pa.record_batch(chunk)) for chunk in chunks), span):
        if not pc.all(pc.starts_with(batch["image_key"], span.prefix)).as_py():
            raise UnspeakableKeyError("obstore names keys that are not in it")
        if pc.any(pc.equal(batch["size_bytes"], pa.scalar(0))).as_py():
            raise UnspeakableKeyError("an object without bytes may be a directory marker")
        rows += batch.num_rows
        yield batch
    if not rows:
        # The span was named because keys are in it, so an empty answer is suspect.
        raise UnspeakableKeyError("obstore finds nothing in it")


def _within(batches: Iterable[pa.RecordBatch], span: Span) -> Iterator[pa.RecordBatch]:
    """Yield what *span* has of *batches*, and take no more of them than that needs.

    The folders' own markers, whose slash obstore drops, are left out. UnsortedError if a span of
    several folders does not come in order: its end could not be told.
    """
    last = span.after
    for batch in batches:
        keys = batch["image_key"]
        own = batch.filter(_is_inside(keys, span))
        if own.num_rows:
            if span.until:
                last = _last_in_order(own["image_key"], last)
            yield own
        if span.until and pc.any(pc.greater_equal(keys, span.until)).as_py():
            return


def _is_inside(keys: pa.Array, span: Span) -> pa.Array:
    if not span.until:
        return pc.not_equal(keys, span.prefix.removesuffix("/"))
    # What lies between the folders came with their names.
    in_a_folder = pc.match_substring(pc.utf8_slice_codeunits(keys, len(span.prefix)), "/")
    return pc.and_(in_a_folder, pc.less(keys, span.until))


def _last_in_order(keys: pa.Array, before: str) -> str:
    """Return the last of *keys*; UnsortedError unless all are greater than the one before them."""
    ascending = pc.all(pc.less(keys[:-1], keys[1:]), min_count=0).as_py()
    if not ascending or keys[0].as_py() <= before:
        raise UnsortedError("its keys come in another order than S3's")
    last: str = keys[-1].as_py()
    return last


def _from_obstore(chunk: pa.RecordBatch) -> pa.RecordBatch:
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
