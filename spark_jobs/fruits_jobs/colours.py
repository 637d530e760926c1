"""Pixels of any mode as RGB: transparency over white, 16-bit grey scaled to 8 bits, not clipped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image


class NoDefinedColours(Exception):  # noqa: N818  (it is about the image, not an error of ours)
    """The pixels have no defined colours; the message says why."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Return *image* as RGB, itself where it is; NoDefinedColours where nobody knows its white."""
    if image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image))
    if image.mode in ("I", "F"):
        return _from_wide(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode == "LAB":
        raise NoDefinedColours("CIELAB colours; supported are RGB, CMYK and grey")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(grey: npt.NDArray[np.uint16]) -> Image.Image:
    scaled = (grey.astype(np.uint32) + 128) // 257  # 65535 becomes 255, exactly and rounded
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    # Pillow opens some 16-bit files as 32-bit; beyond 16 bits no standard says which value is white
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise NoDefinedColours("32-bit samples have no defined white")
    return _from_16_bits(values.astype(np.uint16))
