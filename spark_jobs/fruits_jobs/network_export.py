"""The same network for LiteRT and as ONNX, held against Keras before anybody can use it."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fruits_jobs.engines import LATE, Engine, LiteRtEngine, OnnxEngine
from fruits_jobs.network_parts import early_and_late
from fruits_jobs.networks import feature_model_name, load_network, sha256_of
from fruits_jobs.scaling import SIDE
from fruits_jobs.seeded_weights import synthetic_images

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4
OPSET = 17
LATE_IMAGES = 8
CHECKED_IMAGES = 5


class NetworksDiffer(RuntimeError):  # noqa: N818
    """The exported network's features are off Keras' by *difference*, more than TOLERANCE.

    Both are of the features' own spread, where that is more than 1.
    """

    def __init__(self, backbone: str, suffix: str, difference: float) -> None:
        super().__init__(
            f"the {backbone} exported as {suffix} is off Keras by {difference:.2g}"
            f" (allowed: {TOLERANCE}); run the featurize step with --engine tensorflow instead"
        )
        self.backbone, self.suffix, self.difference = backbone, suffix, difference


def export_networks(backbone: str, weights: Path, outputs: list[Path]) -> dict[str, float]:
    """Write the network to each of *outputs*, whole or none of them: .tflite or .onnx.

    Returns their largest difference from Keras by suffix. WeightsDoNotFit or NetworksDiffer if
    there is nothing worth writing; KeyError for another suffix.
    """
    network = load_network(backbone, weights)
    name = feature_model_name(backbone, sha256_of(weights.read_bytes()))
    models = {output: FORMATS[output.suffix][0](network, name) for output in outputs}
    differences = {
        output.suffix: largest_difference(network, FORMATS[output.suffix][1](model))
        for output, model in models.items()
    }
    for suffix, difference in differences.items():
        if not difference <= TOLERANCE:  # NaN is no small difference
            raise NetworksDiffer(backbone, suffix, difference)
    for output, model in models.items():
        _write(output, model)
    return differences


def to_litert(network: keras.Model, feature_model: str, *, whole: bool = False) -> bytes:
    """Return *network* as a LiteRT model for LiteRtEngine.

    Its signature *feature_model* takes one image. It gives features if the network is to stay
    *whole* or cannot be parted, else what the signature LATE takes of LATE_IMAGES images.
    """
    import keras
    import tensorflow as tf

    parts = None if whole else early_and_late(network)
    signatures = {feature_model: (1, parts[0] if parts else network)}
    if parts:
        signatures[LATE] = (LATE_IMAGES, parts[1])
    archive = keras.export.ExportArchive()
    archive.track(network)
    for name, (images, part) in signatures.items():
        shape = (images, *part.input_shape[1:])
        taken = tf.TensorSpec(shape, part.inputs[0].dtype, name="taken")
        archive.add_endpoint(name, partial(part, training=False), input_signature=[taken])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, list(signatures))
        model: bytes = converter.convert()
    return model


def to_onnx(network: keras.Model, feature_model: str) -> bytes:
    """Return *network* as an ONNX model with any number of images a call, named in its metadata."""
    import tensorflow as tf
    import tf2onnx

    pixels = tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8, name="pixels")
    model, _ = tf2onnx.convert.from_keras(network, input_signature=[pixels], opset=OPSET)
    model.metadata_props.add(key="feature_model", value=feature_model)
    serialized: bytes = model.SerializeToString()
    return serialized


FORMATS: dict[str, tuple[Callable[[keras.Model, str], bytes], Callable[[bytes], Engine]]] = {
    ".tflite": (to_litert, LiteRtEngine),
    ".onnx": (to_onnx, OnnxEngine),
}


def largest_difference(network: keras.Model, engine: Engine) -> float:
    """Return the largest |difference| of any feature between Keras and *engine* on a few images.

    It is in units of the features' standard deviation if that is more than 1: float32 itself rounds
    large features by more than small ones.
    """
    pixels = checked_images()
    expected = np.asarray(network(pixels, training=False))
    difference = np.abs(engine.features(pixels) - expected).max()
    return float(difference / max(1.0, float(expected.std())))


def checked_images() -> npt.NDArray[np.uint8]:
    """Return the images that :func:`largest_difference` is about: noise, and blobs of colour."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (CHECKED_IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    return np.concatenate([noise, synthetic_images(CHECKED_IMAGES, random)])


def _write(output: Path, model: bytes) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be making the same file at this moment.
    partial = output.with_name(f"partial-{secrets.token_hex(4)}-{output.name}")
    partial.write_bytes(model)
    partial.replace(output)
