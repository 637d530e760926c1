"""Large images to 224x224 in little memory: reduced while decoded, converted strip by strip."""

from __future__ import annotations

import math
import struct

from PIL import Image, ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.MpoImagePlugin import MpoImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fruits_jobs.colours import to_rgb
from fruits_jobs.jpeg2000 import described_bytes

SIDE = 224
# A JPEG is reduced while it is decoded as long as both sides keep so many pixels: the antialiasing
# to 224 then still has at least two pixels for each one that it makes.
REDUCED_SIDE = 2 * SIDE
STRIP_PIXELS = 1 << 19
# What a format's decoder holds per pixel, result included, where that is more than Pillow's own 4
# bytes: whole frames beside the result, and 32-bit planes. A test holds decoders to these.
HELD_BYTES = {"JPEG2000": 20, "AVIF": 12, "WEBP": 17, "TIFF": 12}
PIXEL_BYTES = 4
# For a pixel of width or height Pillow's resize has two weights, in a table.
WEIGHT_BYTES = 16
# What an image of a photograph's shape takes to be made narrow is below that, and not counted.
UNCOUNTED_BYTES = 32 << 20
TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF 6.0, section 15

Box = tuple[float, float, float, float]


def reduce_while_decoding(image: ImageFile.ImageFile) -> Box:
    """Tell the decoder of a large JPEG to leave out what a small image cannot show.

    libjpeg's inverse DCT then makes 1/s of the width and the height: s is the largest of 8, 4, 2
    that leaves REDUCED_SIDE on both sides. Returns the box of the decoded pixels that the image
    covers: its right and lower edge may run through the last ones.
    """
    if isinstance(image, JpegImageFile):
        drafted = image.draft(None, (REDUCED_SIDE, REDUCED_SIDE))
        if drafted:
            return drafted[1]
    return (0, 0, image.width, image.height)


def decoding_bytes(image: ImageFile.ImageFile, width: int, height: int) -> int:
    """Return how many bytes are held at once to decode an image of *width* x *height*.

    *image* is opened and perhaps reduced, not loaded.
    """
    pixels, more = image.width * image.height, _narrow_bytes(image.width, image.height)
    if isinstance(image, JpegImageFile):
        return pixels * PIXEL_BYTES + _coefficient_bytes(image, width * height) + more
    if isinstance(image, TiffImageFile):
        pixels = max(pixels, _tile_pixels(image))
    if isinstance(image, Jpeg2KImageFile):
        more += described_bytes(_content(image))
    return pixels * HELD_BYTES.get(str(image.format), PIXEL_BYTES) + more


def _content(image: ImageFile.ImageFile) -> bytes:
    file = image.fp
    if file is None:  # it is closed
        return b""
    at = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(at)
    return content


def _narrow_bytes(width: int, height: int) -> int:
    """Return what the narrow copy of a tall image takes, and the weights of a long one."""
    taken = SIDE * height * PIXEL_BYTES + (width + height) * WEIGHT_BYTES
    return max(0, taken - UNCOUNTED_BYTES)


def _tile_pixels(image: TiffImageFile) -> int:
    """Return the pixels of a tile, which libtiff decodes whole, however small the image is."""
    sides = [image.tag_v2.get(tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH)]
    return math.prod(side for side in sides if isinstance(side, int)) if all(sides) else 0


def _coefficient_bytes(image: JpegImageFile, pixels: int) -> int:
    """Return what libjpeg keeps of a JPEG of more than one scan, of which it needs all."""
    if not image.layer:  # a damaged header names none
        return 0
    if not image.info.get("progressive") and _is_interleaved(image):
        return 0
    layers = [(across, down) for _, across, down, _ in image.layer]
    widest = max(across for across, _ in layers) * max(down for _, down in layers)
    return 2 * pixels * sum(across * down for across, down in layers) // max(1, widest)


def _is_interleaved(image: JpegImageFile) -> bool:
    """Say whether the first scan has all components, so that there is no other."""
    file = image.fp
    if file is None:  # it is closed
        return False
    length = 6 + 2 * image.layers  # of the header of the first scan
    at = file.tell()
    if isinstance(image, MpoImageFile):  # it has gone back to its beginning
        file.seek(0)
        JpegImageFile(file)  # which reads as far as that header
    file.seek(max(0, file.tell() - length))
    begins = file.read(3)
    file.seek(at)
    return begins == struct.pack(">HB", length, image.layers)  # ITU T.81, B.2.3


def to_side(image: Image.Image, box: Box) -> Image.Image:
    """Return the *box* of a loaded image as SIDE x SIDE RGB: its rows first, then its columns.

    Each is Pillow's bilinear resize of one direction, rounded to 8 bits. (Left alone, Pillow takes
    the columns of tall images first, which rounds a few values the other way.) Rows are made narrow
    a strip at a time, so that no second image of full size is needed.
    """
    _, _, right, lower = box
    widest = max(image.width, SIDE)
    if image.height * widest <= STRIP_PIXELS:
        narrow = _narrow(image, right)
    else:
        narrow = Image.new("RGB", (SIDE, image.height))
        rows = max(1, STRIP_PIXELS // widest)
        for top in range(0, image.height, rows):
            strip = image.crop((0, top, image.width, min(top + rows, image.height)))
            narrow.paste(_narrow(strip, right), (0, top))
    return narrow.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (0, 0, SIDE, lower))


def _narrow(strip: Image.Image, right: float) -> Image.Image:
    size, whole = (SIDE, strip.height), (0, 0, right, strip.height)
    return to_rgb(strip).resize(size, Image.Resampling.BILINEAR, whole)
