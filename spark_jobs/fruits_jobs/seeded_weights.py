"""Weights for a machine without real ones: random, but of the magnitude that training gives."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fruits_jobs.networks import body_of, build_network
from fruits_jobs.scaling import SIDE

SEED = 20
CALIBRATION_IMAGES = 8


def write_seeded_weights(backbone: str, path: Path) -> None:
    """Write seeded weights of *backbone* to *path*, a `.weights.h5`, if it is not there yet.

    Kernels are He-normal; batch normalisation is calibrated on synthetic images, so that every
    layer's activations have unit variance and ReLU6 does not saturate.
    """
    if path.exists():
        return
    import keras

    keras.utils.set_random_seed(SEED)  # dropout layers draw while batch statistics are taken
    network = build_network(backbone)
    body = body_of(network)
    random = np.random.default_rng(SEED)
    for layer in body.layers:
        _fill(layer, random)
    _calibrate(network, body, random)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be making the same file at this moment.
    partial = path.with_name(f"partial-{secrets.token_hex(4)}-{path.name}")
    body.save_weights(partial)
    partial.replace(path)


def _fill(layer: Any, random: np.random.Generator) -> None:
    for variable in layer.weights:
        if variable.name.endswith("kernel"):
            variable.assign(_he_normal(variable.shape, _is_depthwise(layer, variable), random))


def _is_depthwise(layer: Any, variable: Any) -> bool:
    return "Depthwise" in type(layer).__name__ or "depthwise" in variable.name


def _he_normal(
    shape: tuple[int, ...], depthwise: bool, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    # The last axis counts outputs; a depthwise kernel sees one channel only.
    fan_in = float(np.prod(shape[:-2] if depthwise else shape[:-1]))
    kernel = random.standard_normal(shape, dtype=np.float32)
    return kernel * np.float32(np.sqrt(2 / fan_in))


def _calibrate(network: Any, body: Any, random: np.random.Generator) -> None:
    """Set every batch normalisation's moving statistics to those of one batch of images."""
    layers = [layer for layer in body.layers if hasattr(layer, "momentum")]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0  # the next batch replaces what was there
    network(synthetic_images(CALIBRATION_IMAGES, random), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def synthetic_images(count: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return uint8[count, 224, 224, 3]: blobs of colour of several sizes, as photographs have."""
    pixels = np.zeros((count, SIDE, SIDE, 3))
    for cells in (2, 4, 8, 16, 32):
        coarse = random.normal(size=(count, cells, cells, 3))
        pixels += np.repeat(np.repeat(coarse, SIDE // cells, 1), SIDE // cells, 2)
    return np.clip(128 + 40 * pixels, 0, 255).astype(np.uint8)
