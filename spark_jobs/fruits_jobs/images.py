"""Bytes to pixels: version v1 of the preprocessing that every feature_model name carries.

The first frame, as RGB over white, scaled bilinearly (antialiased) to 224x224 without keeping the
aspect, then turned upright by its EXIF orientation. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from fruits_jobs.arguments import DEFAULT_MAX_PIXELS
from fruits_jobs.formats import FORMATS, unsupported_kind
from fruits_jobs.memory import ByteBudget

SIDE = 224
PREPROCESSING = f"{SIDE}-bilinear-v1"
# RGB, its source mode and the resized copy live at once for a moment.
BYTES_PER_PIXEL = 8

Image.init()  # else Pillow knows only its five most common formats, and fails on the others' names
READABLE = [name for name in FORMATS if name in Image.OPEN]
# Our own check comes before decoding, with a limit that is an argument and a reason that is a row.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False  # half an image must not become a feature
# A million photographs with odd metadata must not fill the cluster's logs.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.ERROR)

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


def decode(
    data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS, memory: ByteBudget | None = None
) -> Decoded:
    """Return the pixels of the image file in *data*; UndecodableImage says why there are none.

    *memory* limits what decoders of several threads hold at once.
    """
    if not data:
        raise UndecodableImage("empty", "the object has no bytes")
    with _open(data) as image:
        count = image.width * image.height
        if count > max_pixels:
            raise UndecodableImage(
                "too_large",
                f"{image.width}x{image.height} are {count / 1e6:.1f} megapixels,"
                f" the limit is {max_pixels / 1e6:.1f}",
            )
        with (memory or ByteBudget(count)).reserve(count * BYTES_PER_PIXEL):
            return _decode(image)


def _open(data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=READABLE)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        kind = unsupported_kind(data)
        if kind:
            raise UndecodableImage("unsupported", kind) from None
        if _starts_like_an_image(data):
            message = "starts like an image, but its header is cut off or damaged"
            raise UndecodableImage("corrupt", message) from None
        raise UndecodableImage("not_an_image", f"no image format begins {data[:16]!r}") from None
    except Exception as error:  # plugins raise what they like on hostile headers
        raise _corrupt(error) from error


def _decode(image: ImageFile.ImageFile) -> Decoded:
    try:
        image.load()
        rgb = to_rgb(image)
        small = rgb.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        turn = UPRIGHT.get(_orientation(image))
        upright = small.transpose(turn) if turn is not None else small
    except (MemoryError, UndecodableImage):
        raise  # the machine's trouble is not the image's fault
    except Exception as error:
        raise _corrupt(error) from error
    sideways = turn is not None and _orientation(image) >= 5
    width, height = (image.height, image.width) if sideways else (image.width, image.height)
    return Decoded(np.asarray(upright), width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return *image* as RGB: transparency over white, 16-bit grey scaled to 8 bits, not clipped."""
    if image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image))
    if image.mode in ("I", "F"):
        return _from_wide(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode == "LAB":
        raise UndecodableImage("unsupported", "CIELAB colours; supported are RGB, CMYK and grey")
    return image.convert("RGB")


def _from_16_bits(grey: npt.NDArray[np.uint16]) -> Image.Image:
    scaled = (grey.astype(np.uint32) + 128) // 257  # 65535 becomes 255, exactly and rounded
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    # Pillow opens some 16-bit files as 32-bit; beyond 16 bits no standard says which value is white
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise UndecodableImage("unsupported", "32-bit samples have no defined white")
    return _from_16_bits(values.astype(np.uint16))


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
