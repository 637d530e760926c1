"""Which committed files a step reads, and how one content of a file is told from another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import obstore

from fruits_jobs.objects import bucket_store, split_uri

ASKED_AT_ONCE = 32


@dataclass(frozen=True)
class DataFile:
    """One committed data file: its *uri* and *rows*, and the *bytes* and *etag* of its content."""

    uri: str
    rows: int
    bytes: int
    etag: str = ""


def identified(files: list[tuple[str, int]], region: str) -> list[DataFile]:
    """Return the (uri, rows) *files* with the bytes and etags that S3 has for them now.

    FileNotFoundError naming the file that is not there.
    """
    if not files:
        return []

    def ask(file: tuple[str, int]) -> DataFile:
        uri, rows = file
        bucket, key = split_uri(uri)
        try:
            found = obstore.head(bucket_store(bucket, region), key)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"The committed file {uri} is gone") from error
        return DataFile(uri, rows, found["size"], found["e_tag"] or "")

    with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(files))) as pool:
        return list(pool.map(ask, files))
