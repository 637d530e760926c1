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
