"""What the peers run in their workers: the same network as ours in LiteRT, and Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

SIDE = 224


def load(model: bytes) -> Callable[[Any], Any]:
    """Return the network as a function: uint8[N, 224, 224, 3] -> float32[N, 1280]."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    pixels = interpreter.get_input_details()[0]["index"]
    features = interpreter.get_output_details()[0]["index"]

    def infer(image: Any) -> Any:
        interpreter.set_tensor(pixels, image[None])
        interpreter.invoke()
        return interpreter.get_tensor(features)[0]

    return lambda images: np.stack([infer(image) for image in images])


def pixels_of(file: bytes) -> Any:
    """Return an image file as uint8[224, 224, 3]."""
    from PIL import Image

    image = Image.open(io.BytesIO(file)).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
