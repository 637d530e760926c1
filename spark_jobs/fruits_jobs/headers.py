"""How much of a file's header Pillow would collect, counted before it does.

Opening a file keeps every segment of a JPEG, every value of a TIFF's tags and every text of a PNG
as objects of Python, up to 36 times as large as in the file, and joins Exif segments one by one:
20 MB of small ones take minutes. No limit of pixels bounds that.
"""

from __future__ import annotations

import re
import struct

# Profiles, depth maps and previews come in segments of 64 KB: a photograph has some dozens at most.
MOST_SEGMENTS = 2_000
MOST_EXIF_SEGMENTS = 100
# Of numbers; a TIFF has two for each strip or tile.
MOST_TAG_VALUES = 1_000_000
MOST_PNG_CHUNKS = 10_000

_MARKER = re.compile(rb"\xff+[^\xff]", re.DOTALL)  # ITU T.81, B.1.1.2
_SOS = 0xDA
_WITHOUT_LENGTH = {0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}  # and what Pillow skips
_TIFF = {b"II*\0", b"MM\0*", b"II\0*", b"MM*\0"}
_BIG_TIFF = {b"II+\0", b"MM\0+"}
_PIXELS = (b"IDAT", b"fdAT")  # of a PNG, and of an animated one's later frames
_PNG = b"\x89PNG\r\n\x1a\n"
_BYTES_OR_TEXT = {1, 2, 7}  # TIFF 6.0, section 2: they stay one object, however many


def excess(data: bytes) -> str | None:
    """Return what the header of the image file *data* has too much of, or None.

    Of a damaged header it says nothing: that is for the decoder to refuse.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _of_jpeg(data)
        if data[:4] in _TIFF | _BIG_TIFF:
            return _of_tiff(data)
        if data.startswith(_PNG):
            return _of_png(data)
    except struct.error:  # it ends too early
        pass
    return None


def _of_jpeg(data: bytes) -> str | None:
    at, segments, exif = 2, 0, 0
    while found := _MARKER.search(data, at):
        at, marker = found.end(), data[found.end() - 1]
        segments += 1
        if marker == _SOS:
            break
        if marker not in _WITHOUT_LENGTH:
            (length,) = struct.unpack_from(">H", data, at)
            exif += data.startswith(b"Exif\0\0", at + 2)
            at += max(2, length)
        if exif > MOST_EXIF_SEGMENTS:
            return f"a JPEG of more than {MOST_EXIF_SEGMENTS} Exif segments"
        if segments > MOST_SEGMENTS:
            return f"a JPEG of more than {MOST_SEGMENTS:,} segments before its pixels"
    return None


def _of_tiff(data: bytes) -> str | None:
    order = "<" if data.startswith(b"II") else ">"
    if data[:4] in _BIG_TIFF:
        begin, count, entry = order + "8xQ", order + "Q", struct.Struct(order + "HHQ8x")
    else:
        begin, count, entry = order + "4xL", order + "H", struct.Struct(order + "HHL4x")
    (at,) = struct.unpack_from(begin, data)
    (entries,) = struct.unpack_from(count, data, at)
    at += struct.calcsize(count)
    values = 0
    for number in range(entries):
        _, kind, many = entry.unpack_from(data, at + number * entry.size)
        values += 0 if kind in _BYTES_OR_TEXT else many
        if values > MOST_TAG_VALUES:
            return f"a TIFF of more than {MOST_TAG_VALUES:,} values in its tags"
    return None


def _of_png(data: bytes) -> str | None:
    at, chunks = len(_PNG), 0
    while at < len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        chunks += kind not in _PIXELS
        if chunks > MOST_PNG_CHUNKS:
            return f"a PNG of more than {MOST_PNG_CHUNKS:,} chunks besides its pixels"
        at += 12 + length
    return None
