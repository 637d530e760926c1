"""The network as one Keras model: uint8 pixels in, pooled float32 features out."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fruits_jobs.images import PREPROCESSING
from fruits_jobs.scaling import SIDE

if TYPE_CHECKING:
    import keras

Weights = list[npt.NDArray[np.float32]]
IMAGE_SHAPE = (SIDE, SIDE, 3)


class UnknownBackbone(ValueError):  # noqa: N818
    """*backbone* is no Keras application with its own preprocessing."""

    def __init__(self, backbone: str) -> None:
        super().__init__(
            f"{backbone!r} is not a Keras application; known are {', '.join(backbones())}"
        )
        self.backbone = backbone


class WeightsDoNotFit(ValueError):  # noqa: N818
    """The file *path* does not hold the weights of *backbone* without its top."""

    def __init__(self, path: Path, backbone: str, error: Exception) -> None:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        super().__init__(
            f"{path} does not load into {backbone} without its top: {first}. Give the"
            " '…_no_top.h5' file of Keras, or what `save_weights('….weights.h5')` of"
            f" keras.applications.{backbone}(include_top=False, pooling='avg') wrote"
        )
        self.path, self.backbone = path, backbone


def quiet_tensorflow(threads: int | None = None) -> None:
    """Set what TensorFlow reads when it is first imported: no chatter, and *threads* if given."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # a search for GPUs takes seconds
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if threads:
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)


def backbones() -> list[str]:
    """Return the names of the Keras applications that can be a backbone."""
    return sorted(_preprocessing())


def build_network(backbone: str) -> keras.Model:
    """Return the model uint8[N, 224, 224, 3] -> float32[N, D] with fresh random weights.

    The backbone's own `preprocess_input` is inside; its weights are, in order, the model's.
    UnknownBackbone if Keras has no such application.
    """
    pixels, prepared = prepared_pixels(backbone)
    import keras

    body = getattr(keras.applications, backbone)(
        include_top=False, pooling="avg", weights=None, input_shape=IMAGE_SHAPE, name=backbone
    )
    return keras.Model(pixels, body(prepared), name="features")


def prepared_pixels(backbone: str) -> tuple[Any, Any]:
    """Return an input uint8[N, 224, 224, 3], and it as *backbone* wants it, float32 of that shape.

    UnknownBackbone if Keras has no such application.
    """
    if backbone not in _preprocessing():
        raise UnknownBackbone(backbone)
    import keras

    pixels = keras.Input(IMAGE_SHAPE, dtype="uint8", name="pixels")
    return pixels, _preprocessing()[backbone](keras.ops.cast(pixels, "float32"))


def body_of(network: keras.Model) -> keras.Model:
    """Return the Keras application inside *network*: the part that has the weights."""
    import keras

    return next(layer for layer in network.layers if isinstance(layer, keras.Model))


def load_network(backbone: str, weights: Path) -> keras.Model:
    """Return :func:`build_network` with the weights of a `.weights.h5` or legacy `.h5` file."""
    network = build_network(backbone)
    try:
        body_of(network).load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise WeightsDoNotFit(weights, backbone, error) from error
    return network


def read_weights(backbone: str, name: str, data: bytes) -> Weights:
    """Return the weights in *data*, the content of a weights file called *name*, in model order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name  # Keras tells its formats apart by the name
        path.write_bytes(data)
        return [np.asarray(weight) for weight in load_network(backbone, path).get_weights()]


def feature_model_name(backbone: str, weights_sha256: str) -> str:
    """Return the name of what makes a feature: backbone, preprocessing and weights."""
    return f"{backbone}-{PREPROCESSING}-{weights_sha256[:12]}"


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of *data* in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _preprocessing() -> dict[str, Any]:
    quiet_tensorflow()
    import keras

    makers = {name: make for name, make in vars(keras.applications).items() if name[0].isupper()}
    # Not all modules that Keras shows to users hold both: MobileNetV3's has no network in it.
    return {name: sys.modules[make.__module__].preprocess_input for name, make in makers.items()}
