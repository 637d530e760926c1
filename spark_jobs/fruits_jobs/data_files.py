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


class RowsDiffer(RuntimeError):  # noqa: N818
    """The file *uri* holds another number of rows than the table says."""

    def __init__(self, uri: str, expected: int, found: int) -> None:
        super().__init__(f"{uri} is listed with {expected} rows, but has {found}")
        self.uri, self.expected, self.found = uri, expected, found


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
