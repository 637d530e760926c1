"""Large images to 224x224 in little memory: reduced while decoded, converted strip by strip."""

from __future__ import annotations

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from fruits_jobs.colours import to_rgb

SIDE = 224
# A JPEG is reduced while it is decoded as long as both sides keep so many pixels: the antialiasing
# to 224 then still has at least two pixels for each one that it makes.
REDUCED_SIDE = 2 * SIDE
STRIP_PIXELS = 1 << 19
# What a format's decoder holds per pixel, result included, where that is more than Pillow's own 4
# bytes: whole frames beside the result, and 32-bit planes. A test holds decoders to these.
HELD_BYTES = {"JPEG2000": 20, "AVIF": 12, "WEBP": 17, "TIFF": 12}
PIXEL_BYTES = 4

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
    pixels = image.width * image.height
    if isinstance(image, JpegImageFile):
        return pixels * PIXEL_BYTES + _coefficient_bytes(image, width * height)
    return pixels * HELD_BYTES.get(str(image.format), PIXEL_BYTES)


def _coefficient_bytes(image: JpegImageFile, pixels: int) -> int:
    """Return what libjpeg keeps of a progressive JPEG, which it reads several times over."""
    if not image.info.get("progressive") or not image.layer:  # a damaged header names no layer
        return 0
    layers = [(across, down) for _, across, down, _ in image.layer]
    widest = max(across for across, _ in layers) * max(down for _, down in layers)
    return 2 * pixels * sum(across * down for across, down in layers) // max(1, widest)


def to_side(image: Image.Image, box: Box) -> Image.Image:
    """Return the *box* of a loaded image as SIDE x SIDE RGB: its rows first, then its columns.

    Each is Pillow's bilinear resize of one direction, rounded to 8 bits. (Left alone, Pillow takes
    the columns of tall images first, which rounds a few values the other way.) Rows are made narrow
    a strip at a time, so that no second image of full size is needed.
    """
    _, _, right, lower = box
    if image.height * image.width <= STRIP_PIXELS:
        narrow = _narrow(image, right)
    else:
        narrow = Image.new("RGB", (SIDE, image.height))
        rows = max(1, STRIP_PIXELS // image.width)
        for top in range(0, image.height, rows):
            strip = image.crop((0, top, image.width, min(top + rows, image.height)))
            narrow.paste(_narrow(strip, right), (0, top))
    return narrow.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (0, 0, SIDE, lower))


def _narrow(strip: Image.Image, right: float) -> Image.Image:
    size, whole = (SIDE, strip.height), (0, 0, right, strip.height)
    return to_rgb(strip).resize(size, Image.Resampling.BILINEAR, whole)
