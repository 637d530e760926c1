"""The same network for ONNX Runtime, held against Keras before anybody can use it."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fruits_jobs.engines import OnnxEngine
from fruits_jobs.networks import feature_model_name, load_network, sha256_of
from fruits_jobs.scaling import SIDE
from fruits_jobs.seeded_weights import synthetic_images

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4
OPSET = 17
CHECKED_IMAGES = 5


class NetworksDiffer(RuntimeError):  # noqa: N818
    """The exported network's features are off Keras' by *difference*, more than TOLERANCE."""

    def __init__(self, backbone: str, difference: float) -> None:
        super().__init__(
            f"the exported {backbone} is off Keras by {difference:.2g} (allowed: {TOLERANCE});"
            " run the featurize step with --engine tensorflow instead"
        )
        self.backbone, self.difference = backbone, difference


def export_onnx(backbone: str, weights: Path, output: Path) -> float:
    """Write the network as ONNX to *output*, whole or not at all; return its largest difference.

    WeightsDoNotFit or NetworksDiffer if there is nothing worth writing.
    """
    network = load_network(backbone, weights)
    name = feature_model_name(backbone, sha256_of(weights.read_bytes()))
    model = to_onnx(network, name)
    difference = largest_difference(network, model)
    if not difference <= TOLERANCE:  # NaN is no small difference
        raise NetworksDiffer(backbone, difference)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be making the same file at this moment.
    partial = output.with_name(f"partial-{secrets.token_hex(4)}-{output.name}")
    partial.write_bytes(model)
    partial.replace(output)
    return difference


def to_onnx(network: keras.Model, feature_model: str) -> bytes:
    """Return *network* as an ONNX model with any number of images a call, named in its metadata."""
    import tensorflow as tf
    import tf2onnx

    pixels = tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8, name="pixels")
    model, _ = tf2onnx.convert.from_keras(network, input_signature=[pixels], opset=OPSET)
    model.metadata_props.add(key="feature_model", value=feature_model)
    serialized: bytes = model.SerializeToString()
    return serialized


def largest_difference(network: keras.Model, model: bytes) -> float:
    """Return the largest |difference| of any feature between Keras and ONNX on a few images."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (CHECKED_IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    pixels = np.concatenate([noise, synthetic_images(CHECKED_IMAGES, random)])
    expected = np.asarray(network(pixels, training=False))
    return float(np.abs(OnnxEngine(model).features(pixels) - expected).max())
