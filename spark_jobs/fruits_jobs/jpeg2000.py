"""What the parts of a JPEG 2000 file take to be decoded, besides its pixels.

OpenJPEG describes each tile and each code block in memory, and a file may have one of each pixel.
"""

from __future__ import annotations

import struct

# Measured with OpenJPEG 2.5: 11.6 KB a tile, 0.42 KB a code block.
TILE_BYTES = 16 << 10
BLOCK_BYTES = 512

_SIZ, _COD, _SOT = b"\xff\x51", b"\xff\x52", b"\xff\x90"  # ISO/IEC 15444-1, table A.2


def described_bytes(data: bytes) -> int:
    """Return how many bytes OpenJPEG takes to describe the file's parts; 0 of a damaged one."""
    try:
        segments = _main_header(data, _codestream(data))
        width, height, tile_width, tile_height, components = _size(segments[_SIZ])
        blocks = components * _blocks(width * height, segments[_COD])
    except (struct.error, KeyError, IndexError):
        return 0  # for the decoder to refuse
    tiles = -(-width // max(1, tile_width)) * -(-height // max(1, tile_height))
    return tiles * TILE_BYTES + max(blocks, tiles) * BLOCK_BYTES


def _codestream(data: bytes) -> int:
    """Return where the codestream begins: at once, or in the box `jp2c` (annex I)."""
    if data.startswith(b"\xff\x4f"):
        return 0
    at = 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        if kind == b"jp2c":
            return at + header
        if length < header:
            raise IndexError("a box that does not end")
        at += length


def _main_header(data: bytes, begin: int) -> dict[bytes, bytes]:
    """Return the marker segments up to the first tile, without marker and length."""
    found: dict[bytes, bytes] = {}
    at = begin + 2
    while (marker := data[at : at + 2]) != _SOT:
        (length,) = struct.unpack_from(">H", data, at + 2)
        found.setdefault(marker, data[at + 4 : at + 2 + length])
        at += 2 + max(2, length)
    return found


def _size(segment: bytes) -> tuple[int, int, int, int, int]:
    """Return width and height of the reference grid and of a tile, and the number of components."""
    values = struct.unpack_from(">H8IH", segment)
    return values[1], values[2], values[5], values[6], values[9]


def _blocks(pixels: int, segment: bytes) -> int:
    """Return into how many code blocks the *pixels* of a component go, at all resolutions.

    Each resolution has a quarter of the next one's pixels; precincts may cut its blocks smaller.
    """
    levels, across, down = segment[5], segment[6] + 2, segment[7] + 2
    precincts = segment[10 : 11 + levels] if segment[0] & 1 else b"\xff" * (levels + 1)
    found = 0
    for resolution, precinct in enumerate(precincts):
        halved = 1 if resolution else 0  # but for the lowest, a precinct has several bands
        exponent = min(across, max(0, (precinct & 15) - halved))
        exponent += min(down, max(0, (precinct >> 4) - halved))
        found += -(-(pixels >> 2 * (levels - resolution)) >> exponent)
    return found
