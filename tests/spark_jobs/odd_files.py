"""Image files that are right and that no library here writes: put together from their parts."""

from __future__ import annotations

import struct
import zlib


def scan_per_component(gray: bytes) -> bytes:
    """Return a JPEG in colour, not progressive, with a scan for each of its three components.

    Each has the pixels of *gray*, a JPEG of one component.
    """
    parts, at = {}, 2
    while gray[at + 1] != 0xDA:
        length = struct.unpack_from(">H", gray, at + 2)[0]
        parts.setdefault(gray[at + 1], []).append(gray[at : at + 2 + length])
        at += 2 + length
    header = struct.unpack_from(">H", gray, at + 2)[0]
    coded = gray[at + 2 + header : -2]
    (frame,) = parts[0xC0]
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    frame = frame[:2] + struct.pack(">H", 17) + frame[4:9] + b"\x03" + components
    scans = (b"\xff\xda\x00\x08\x01" + bytes([number, 0, 0, 63, 0]) + coded for number in (1, 2, 3))
    tables = b"".join(parts[0xDB]), b"".join(parts[0xC4])
    return b"\xff\xd8" + tables[0] + frame + tables[1] + b"".join(scans) + b"\xff\xd9"


def rows_of(strip: bytes, times: int) -> bytes:
    """Return a JPEG that shows *strip* so many times, one below the other.

    *strip* is a JPEG of one row of MCUs, which was saved with a restart marker for each row.
    """
    scan = strip.index(b"\xff\xda")
    begins = scan + 2 + struct.unpack_from(">H", strip, scan + 2)[0]
    height, width = struct.unpack_from(">HH", strip, strip.index(b"\xff\xc0") + 5)
    coded = strip[begins:-2]
    rows = (coded + bytes([0xFF, 0xD0 + row % 8]) for row in range(times - 1))
    return claiming(strip[:begins], width, height * times) + b"".join(rows) + coded + b"\xff\xd9"


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """Return a JPEG, baseline or progressive, whose header says that it is so large."""
    frame = max(jpeg.find(marker) for marker in (b"\xff\xc0", b"\xff\xc2"))
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def one_tile(side: int) -> bytes:
    """Return a TIFF of 16 x 16 gray pixels in one deflated tile of *side* x *side*."""
    tile = zlib.compress(bytes(side * side), 9)
    tags = {
        256: 16,  # width
        257: 16,  # length
        258: 8,  # bits per sample
        259: 8,  # deflate
        262: 1,  # black is zero
        277: 1,  # samples per pixel
        322: side,
        323: side,
        324: 8,  # where the tile is
        325: len(tile),
    }
    entries = (struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + directory
