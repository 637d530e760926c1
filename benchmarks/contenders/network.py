"""What the peers run in their workers: the same network as ours in LiteRT, and Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

SIDE = 224


def load(model: bytes) -> Callable[[Any], Any]:
    """Return the network as a function: uint8[N, 224, 224, 3] -> float32[N, 1280].

    It may be called by several threads at once, as Daft does: an interpreter must not, so that each
    call takes one that is free.
    """
    free = [_interpreter(model)]

    def infer(images: Any) -> Any:
        try:
            run = free.pop()
        except IndexError:
            run = _interpreter(model)
        try:
            return np.stack([run(image) for image in images])
        finally:
            free.append(run)

    return infer


def _interpreter(model: bytes) -> Callable[[Any], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    (pixels,), (features,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(image: Any) -> Any:
        interpreter.set_tensor(pixels["index"], image[None])
        interpreter.invoke()
        return interpreter.get_tensor(features["index"])[0]

    return run


def pixels_of(file: bytes) -> Any:
    """Return an image file as uint8[224, 224, 3]."""
    from PIL import Image

    image = Image.open(io.BytesIO(file)).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
