"""Bytes to pixels: version v2 of the preprocessing that every feature_model name carries.

The first frame, as RGB over white, scaled bilinearly (antialiased) to 224x224 without keeping the
aspect, rows first, then columns; then turned upright by its EXIF orientation. Colour profiles are
not applied. A JPEG whose sides are both at least 896 is decoded at 1/2 of its size, from 1792 at
1/4, from 3584 at 1/8 (`fruits_jobs.scaling`; docs/decisions/0012 says what that changes).
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin, Image, ImageFile, PngImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from fruits_jobs.arguments import DEFAULT_MAX_PIXELS
from fruits_jobs.colours import NoDefinedColours
from fruits_jobs.formats import FORMATS, unsupported_kind
from fruits_jobs.headers import excess
from fruits_jobs.scaling import (
    PIXEL_BYTES,
    SIDE,
    Box,
    decoding_bytes,
    reduce_while_decoding,
    to_side,
)

PREPROCESSING = f"{SIDE}-bilinear-v2"

Image.init()  # else Pillow knows only its five most common formats, and fails on the others' names
READABLE = [name for name in FORMATS if name in Image.OPEN]
# Our own check comes before decoding, with a limit that is an argument and a reason that is a row.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False  # half an image must not become a feature
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20  # of 1 MB of an editor's metadata Pillow makes an error
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # Spark runs one task per core
# A million photographs with odd metadata must not fill the cluster's logs.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.ERROR)

# A JPEG is gone over once per scan. Encoders make about 10; 100 bytes make one more.
MOST_SCANS = 200
SCAN = re.compile(rb"\xff\xda\x00[\x08\x0a\x0c\x0e][\x01-\x04]")  # ITU T.81, B.2.3
# The file stays in memory while its pixels are made: of both together there is not twice as much.
WITH_FILE = 4 / 3
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Decoded:
    """An upright image: *pixels* uint8[224, 224, 3] in RGB, and its own *width* and *height*."""

    pixels: Pixels
    width: int
    height: int


class UndecodableImage(Exception):  # noqa: N818  (it is about the image, not an error of ours)
    """The bytes are no image that we can turn into pixels.

    *reason* is one of empty, not_an_image, unsupported, too_large, truncated, corrupt.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


def decode(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Decoded:
    """Return the pixels of the image file in *data*; UndecodableImage says why there are none."""
    if not data:
        raise UndecodableImage("empty", "the object has no bytes")
    if too_much := excess(data):
        raise UndecodableImage("too_large", too_much)
    with _hostile_bytes(), _open(data) as image:
        width, height = image.size
        box = reduce_while_decoding(image)
        _refuse_size(image, f"{width}x{height}", max_pixels)
        _refuse_scans(image, data)
        needed = decoding_bytes(image, width, height)
        _refuse_memory(image, needed, len(data), max_pixels * PIXEL_BYTES)
        return _decode(image, box, width, height)


def _refuse_size(image: ImageFile.ImageFile, size: str, limit: int) -> None:
    pixels = image.width * image.height
    if pixels > limit:
        raise UndecodableImage(
            "too_large",
            f"{size} are {pixels / 1e6:.1f} megapixels to decode, the limit is {limit / 1e6:.1f}",
        )


def _refuse_scans(image: ImageFile.ImageFile, data: bytes) -> None:
    if isinstance(image, JpegImageFile):
        scans = sum(1 for _ in islice(SCAN.finditer(data), MOST_SCANS + 1))
        if scans > MOST_SCANS:
            message = f"a JPEG of more than {MOST_SCANS} scans"
            raise UndecodableImage("too_large", message)


def _refuse_memory(image: ImageFile.ImageFile, needed: int, size: int, limit: int) -> None:
    named = f"{image.width}x{image.height} pixels of {image.format} take {needed / 1e6:.0f} MB"
    if needed > limit:
        raise UndecodableImage("too_large", f"{named} to decode, the limit is {limit / 1e6:.0f}")
    if needed + size > limit * WITH_FILE:
        raise UndecodableImage(
            "too_large",
            f"{named} to decode, beside the file's own {size / 1e6:.0f}; the limit of both is"
            f" {limit * WITH_FILE / 1e6:.0f}",
        )


def _open(data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=READABLE)
    except UnidentifiedImageError:
        kind = unsupported_kind(data)
        if kind:
            raise UndecodableImage("unsupported", kind) from None
        if _starts_like_an_image(data):
            message = "starts like an image, but its header is cut off or damaged"
            raise UndecodableImage("corrupt", message) from None
        raise UndecodableImage("not_an_image", f"no image format begins {data[:16]!r}") from None


@contextmanager
def _hostile_bytes() -> Iterator[None]:
    """Say why there are no pixels, whatever Pillow raises over the bytes."""
    try:
        yield
    except (MemoryError, UndecodableImage):
        raise  # the former is the machine's trouble, and not the image's fault
    except NoDefinedColours as error:
        raise UndecodableImage("unsupported", str(error)) from None
    except Exception as error:  # plugins raise what they like
        raise _corrupt(error) from error


def _decode(image: ImageFile.ImageFile, box: Box, width: int, height: int) -> Decoded:
    image.load()
    small = to_side(image, box)
    orientation = _orientation(image)
    turn = UPRIGHT.get(orientation)
    upright = small.transpose(turn) if turn is not None else small
    if turn is not None and orientation >= 5:
        width, height = height, width
    return Decoded(np.asarray(upright), width, height)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001  (damaged metadata does not make good pixels bad)
        return 1


def _corrupt(error: Exception) -> UndecodableImage:
    message = f"{type(error).__name__}: {error}"
    truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
    return UndecodableImage("truncated" if truncated else "corrupt", message[:500])


def _starts_like_an_image(data: bytes) -> bool:
    accepts = [Image.OPEN[name][1] for name in READABLE]
    return len(data) >= 16 and any(accept and accept(data[:16]) is True for accept in accepts)
