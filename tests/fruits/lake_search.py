"""A search of the whole lake for one image: its key, its etag and its vectors, in every format.

It reads the bucket's folder, so it sees what is there and not what a table says is there, and it
shares no code with what erases.
"""

from __future__ import annotations

import gzip
import html
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Numbers = Sequence[float]


@dataclass(frozen=True)
class Trace:
    """A file of the lake (its path there) that tells of the image, and where in it."""

    file: str
    where: str


@dataclass(frozen=True)
class Image:
    """What an image is known by: *words* (its key, its etag) and *vectors*."""

    words: tuple[str, ...]
    vectors: tuple[Numbers, ...]

    def is_in(self, data: bytes) -> bool:
        """Say whether one of the words is in *data*, however it is written there."""
        return any(spelling in data for word in self.words for spelling in _spellings(word))

    def is_like(self, numbers: Any) -> bool:
        """Say whether *numbers* begin as one of the vectors does, to three decimals."""
        found = np.asarray(numbers, np.float64).ravel()
        return any(
            len(found) >= 2 and np.allclose(found[: len(vector)], vector[: len(found)], atol=1e-3)
            for vector in self.vectors
        )


def search(lake: Path, image: Image) -> set[Trace]:
    """Return every trace of *image* in the folder of the lake."""
    files = sorted(path for path in lake.rglob("*") if path.is_file())
    return {
        Trace(str(path.relative_to(lake)), where)
        for path in files
        for where in _look(path.read_bytes(), path.name, image)
    }


def _look(data: bytes, name: str, image: Image) -> Iterator[str]:
    if image.is_in(name.encode()):
        yield "name"
    if data[:4] == b"PAR1":
        yield from _in_parquet(data, image)
    elif data[:4] == b"Obj\x01":
        yield from ("avro" for block in _avro_blocks(data) if image.is_in(block))
    elif data[:2] == b"\x1f\x8b":
        yield from (f"gzip {where}" for where in _look(gzip.decompress(data), name[:-3], image))
    elif data[:4] == b"PK\x03\x04":
        yield from _in_zip(data, image)
    else:
        yield from _in_text(data, name, image)


def _in_parquet(data: bytes, image: Image) -> Iterator[str]:
    length = int.from_bytes(data[-8:-4], "little")
    if image.is_in(data[-8 - length : -8]):
        yield "parquet footer"
    if image.is_in(data[: -8 - length]):  # indexes of pages, and pages that are not compressed
        yield "parquet pages"
    for column in pq.read_table(io.BytesIO(data)).columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            if image.is_in("\0".join(map(str, column.to_pylist())).encode()):
                yield "parquet values"
        elif pa.types.is_list(column.type) and any(map(image.is_like, column.to_pylist())):
            yield "parquet vectors"
    yield from _in_dictionaries(data, image)


def _in_dictionaries(data: bytes, image: Image) -> Iterator[str]:
    schema = pq.read_schema(io.BytesIO(data))
    texts = [field.name for field in schema if field.type in (pa.string(), pa.large_string())]
    # Read so, a column keeps all values of its dictionary, also those that no row has.
    table = pq.read_table(io.BytesIO(data), read_dictionary=texts, columns=texts)
    for column in table.columns:
        for chunk in column.chunks:
            if pa.types.is_dictionary(chunk.type) and image.is_in(
                "\0".join(map(str, chunk.dictionary.to_pylist())).encode()
            ):
                yield "parquet dictionary"


def _in_zip(data: bytes, image: Image) -> Iterator[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content in members.items():
        if not name.endswith(".npy"):
            yield from (f"zip {where}" for where in _look(content, name, image))
            continue
        array = np.load(io.BytesIO(content))
        if image.is_in(array.tobytes()):
            yield "npz words"
        if array.dtype.kind == "f" and any(map(image.is_like, np.atleast_2d(array))):
            yield "npz vectors"


def _in_text(data: bytes, name: str, image: Image) -> Iterator[str]:
    kind = name.rpartition(".")[2] if "." in name else "text"
    if image.is_in(data):
        yield kind
    try:
        content = json.loads(data)
    except ValueError:
        return
    if any(map(image.is_like, _lists(content))):
        yield f"{kind} vectors"


def _lists(content: Any) -> Iterator[list[float]]:
    """Yield every list of numbers in *content*, however deep."""
    inner = content.values() if isinstance(content, dict) else content
    if isinstance(content, list) and content and all(isinstance(x, int | float) for x in content):
        yield content
    elif isinstance(content, dict | list):
        for one in inner:
            yield from _lists(one)


def _avro_blocks(data: bytes) -> Iterator[bytes]:
    """Yield the header and the blocks of an Avro container, decompressed."""
    stream = io.BytesIO(data)
    stream.seek(4)
    codec = "null"
    while count := _long(stream):
        if count < 0:
            _long(stream)
        for _ in range(abs(count)):
            name, value = (stream.read(_long(stream)) for _ in range(2))
            codec = value.decode() if name == b"avro.codec" else codec
    stream.seek(16, io.SEEK_CUR)
    yield data[: stream.tell()]
    while stream.tell() < len(data):
        _long(stream)
        block = stream.read(_long(stream))
        stream.seek(16, io.SEEK_CUR)
        yield {"null": bytes, "deflate": lambda b: zlib.decompress(b, -15)}[codec](block)


def _long(stream: io.BytesIO) -> int:
    shift = number = 0
    while (byte := stream.read(1)[0]) & 0x80:
        number |= (byte & 0x7F) << shift
        shift += 7
    number |= byte << shift
    return (number >> 1) ^ -(number & 1)


def _spellings(word: str) -> set[bytes]:
    written = {word, json.dumps(word)[1:-1], html.escape(word), quote(word), quote(word, safe="")}
    return {one.encode() for one in written}
