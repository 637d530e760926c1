"""What the peers run in their workers: our own engine, and Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from fruits_jobs.engines import LiteRtEngine
from fruits_jobs.scaling import SIDE


def load(model: bytes) -> Callable[[Any], Any]:
    """Return the network as a function: uint8[N, 224, 224, 3] -> float32[N, 1280].

    It may be called by several threads at once, as Daft does: an engine must not, so that each call
    takes one that is free.
    """
    free = [LiteRtEngine(model)]

    def infer(images: Any) -> Any:
        try:
            engine = free.pop()
        except IndexError:
            engine = LiteRtEngine(model)
        try:
            return engine.features(images)
        finally:
            free.append(engine)

    return infer


def pixels_of(file: bytes) -> Any:
    """Return an image file as uint8[224, 224, 3]."""
    from PIL import Image

    image = Image.open(io.BytesIO(file)).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
