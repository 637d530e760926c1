"""Which entries of the statistics cache are stale: never those that could not be read just now."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from fruits.objects import read_bytes
from fruits.statistics_entries import _files_of
from fruits.stored import Stored
from local_cloud.s3 import ObjectStorage
from tests.fruits.lake_support import LAKE
from tests.fruits.test_erasures import write_statistics

ENTRY = Stored(f"{LAKE}/statistics/m/1.npz", datetime(2026, 11, 1, tzinfo=UTC), 0)
FILE = "s3://fruits-lake/tables/features/data/1.parquet"
THROTTLED = OSError("When reading object: AWS Error SLOW_DOWN during GetObject operation")


class Opening:
    """A FileIO with one file, which opens as *open* does."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def new_input(self, uri: str) -> Opening:
        return self

    def open(self) -> Any:
        if isinstance(self._opened, Exception):
            raise self._opened
        return self._opened


class FailingStream(io.BytesIO):
    """A file in S3 that cannot be read any more once it is open."""

    def read(self, *_: Any) -> bytes:
        raise THROTTLED


@pytest.fixture
def content(storage: ObjectStorage) -> bytes:
    """Return the bytes of an entry that names one file."""
    write_statistics(ENTRY.uri, [FILE], range(100))
    return read_bytes(ENTRY.uri)


def test_an_entry_names_its_files(content: bytes) -> None:
    """The files of an entry that is whole are those that it names."""
    assert _files_of(Opening(pa.BufferReader(content)), ENTRY) == {FILE}


@pytest.mark.parametrize("opened", [THROTTLED, FailingStream(b"PK")], ids=["open", "read"])
def test_an_entry_that_cannot_be_read_now_is_not_stale(opened: Any) -> None:
    """S3 that fails says nothing of the entry: it is an error, and nothing is deleted."""
    with pytest.raises(OSError, match="SLOW_DOWN"):
        _files_of(Opening(opened), ENTRY)


def test_an_entry_that_is_gone_is_stale() -> None:
    """A pca step deleted it meanwhile: to delete it again does no harm."""
    assert _files_of(Opening(FileNotFoundError(ENTRY.uri)), ENTRY) == {""}


def test_a_damaged_entry_is_stale(content: bytes) -> None:
    """However an entry is cut short or garbled, it names its files or is stale: no error."""
    chance = random.Random(7)

    for _ in range(2000):
        damaged = bytearray(content[chance.randrange(len(content)) * chance.randrange(2) :])
        del damaged[len(damaged) - chance.randrange(len(damaged)) * chance.randrange(2) :]
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        files = _files_of(Opening(pa.BufferReader(bytes(damaged))), ENTRY)
        assert len(files) == 1
