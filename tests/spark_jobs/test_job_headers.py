"""Headers that would take Pillow gigabytes or hours to collect are refused before it opens them."""

import io
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fruits_jobs.headers import excess
from fruits_jobs.images import UndecodableImage, decode


def photo(**how: object) -> bytes:
    """Return a small JPEG."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 40).convert("RGB").save(buffer, "JPEG", **how)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(order: str, values: int, *, big: bool = False) -> bytes:
    """Return a TIFF's header whose tag BitsPerSample has so many *values*."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 16)
        entry = struct.pack(f"{order}QHHQQQ", 1, 258, 3, values, 44, 0)
    else:
        head = mark + struct.pack(f"{order}HL", 42, 8)
        entry = struct.pack(f"{order}HHHLLL", 1, 258, 3, values, 26, 0)
    return head + entry + bytes(2 * values)


GOOD = photo()
EXIF = b"\xff\xe1" + struct.pack(">H", 18) + b"Exif\0\0" + bytes(10)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = b"".join(chunk(b"tEXt", b"%d\0" % number) for number in range(20_000))
HOSTILE = {
    "empty segments": GOOD[:2] + b"\xff\xe0\x00\x02" * 100_000 + GOOD[2:],
    "segments behind a preview": GOOD[:2]
    + b"\xff\xe1\x00\x08\xff\xda\x00\x02\x00\x00"
    + b"\xff\xfe\x00\x02" * 100_000
    + GOOD[2:],
    "segments with fill bytes": GOOD[:2] + b"\xff\xff\xff\xe0\x00\x02" * 100_000 + GOOD[2:],
    "small Exif segments": GOOD[:2] + EXIF * 5_000 + GOOD[2:],
    "a tag of very many values": tiff("<", 1_100_000),
    "the other byte order": tiff(">", 1_100_000),
    "a BigTIFF": tiff("<", 1_100_000, big=True),
    "very many texts": SIGNATURE
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    + TEXTS,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_be_collected_is_counted_first(name: str) -> None:
    """The worker would be killed, and its neighbours with it, by a file that no row names."""
    data = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableImage) as refused:
            decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert refused.value.reason == "too_large"
    assert "more than" in refused.value.message
    assert peak < 1e6


def test_scans_are_counted_no_further_than_it_takes() -> None:
    """A list of all that look like one would be nine times as large as the file."""
    data = GOOD[:-2] + b"\xff\xda\x00\x0c\x03" * 100_000 + b"\xff\xd9"
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableImage, match="more than 200 scans"):
            decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < len(data) + 1e6


def test_headers_of_real_files_pass() -> None:
    """Profiles, long metadata in several segments, and many strips are what software writes."""
    long = photo(icc_profile=bytes(3 << 20), comment=b"x" * 60_000)
    for data in (long, GOOD[:2] + EXIF * 3 + GOOD[2:], GOOD[:2] + b"\xff" * 5_000 + GOOD[2:]):
        assert decode(data).width == 64
    texts = PngInfo()
    for number in range(500):
        texts.add_text(f"key {number}", "value")
    for how in ({"format": "PNG", "pnginfo": texts}, {"format": "TIFF", "strip_size": 192}):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 4_000)).save(buffer, **how)
        assert decode(buffer.getvalue()).height == 4_000


def test_frames_of_an_animation_are_no_header() -> None:
    """Of a long one the first is taken: Pillow does not collect what it does not show."""
    assert excess(SIGNATURE + chunk(b"fdAT", bytes(4)) * 20_000) is None
    assert excess(SIGNATURE + chunk(b"prVt", bytes(4)) * 20_000) is not None


@pytest.mark.parametrize("data", [GOOD[:3], GOOD[:7], b"II*\0", tiff("<", 9)[:20], SIGNATURE])
def test_a_header_that_is_cut_off_is_for_the_decoder_to_refuse(data: bytes) -> None:
    """It has not too much of anything."""
    with pytest.raises(UndecodableImage) as refused:
        decode(data)
    assert refused.value.reason != "too_large"


def test_the_file_counts_beside_its_pixels() -> None:
    """Both are in memory at once: pixels that nearly fill it leave no room for a raw file."""
    side = 300
    pixels = bytes(range(256)) * (side * side * 3 // 256 + 1)
    raw = io.BytesIO()
    Image.frombytes("RGB", (side, side), pixels[: side * side * 3]).save(raw, "BMP")
    small = io.BytesIO()
    Image.new("RGB", (side, side)).save(small, "PNG")
    limit = int(side * side * 1.1)

    assert decode(small.getvalue(), limit).width == side
    assert decode(raw.getvalue(), 2 * limit).width == side
    with pytest.raises(UndecodableImage, match="beside the file's own") as refused:
        decode(raw.getvalue(), limit)
    assert refused.value.reason == "too_large"
