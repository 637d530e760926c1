"""The ways to run the network on one core, behind one small interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fruits_jobs.networks import Weights, build_network, quiet_tensorflow

Features = npt.NDArray[np.float32]
# N images of uint8[224, 224, 3]: one array, or one each.
Images = npt.NDArray[np.uint8] | Sequence[npt.NDArray[np.uint8]]
LATE = "late"  # the signature of the layers that take several images at once


class Engine(Protocol):
    """What turns pixels into features: *length* floats per image."""

    length: int

    def features(self, pixels: Images) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""


class LiteRtEngine:
    """LiteRT (TensorFlow Lite with XNNPACK) on one thread, from the bytes of an exported network.

    The early layers run an image at a time, the late ones (if the model has them apart) several.
    Not for several threads at once. ValueError if the bytes are no network of ours.
    """

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        # Spark runs one task per core: threads of our own would only fight over them.
        interpreter = Interpreter(model_content=model, num_threads=1)
        names = interpreter.get_signature_list()
        self.feature_model = next((name for name in names if name != LATE), None)
        if self.feature_model is None:
            raise ValueError("a LiteRT model without a signature, so not one of export_network.py")
        self._early = _Signature(interpreter, self.feature_model)
        self._late = _Signature(interpreter, LATE) if LATE in names else None
        taken, made = (self._late or self._early).shapes
        self.length = int(made[-1])
        # What the early layers made of a group's images. Rows that a small group leaves as they are
        # go through the late layers too, and nobody looks at what comes out.
        self._middle = np.zeros(taken if self._late else (1, self.length), np.float32)

    def features(self, pixels: Images) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""
        found = np.empty((len(pixels), self.length), np.float32)
        for start in range(0, len(pixels), len(self._middle)):
            group = pixels[start : start + len(self._middle)]
            for at, image in enumerate(group):
                self._middle[at] = self._early(image[np.newaxis])[0]
            made = self._late(self._middle) if self._late else self._middle
            found[start : start + len(group)] = made[: len(group)]
        return found


class _Signature:
    """A part of a LiteRT model as a function from one tensor to one, of fixed *shapes*."""

    def __init__(self, interpreter: Any, name: str) -> None:
        self._run = interpreter.get_signature_runner(name)
        ((self._taken, taken),) = self._run.get_input_details().items()
        ((self._made, made),) = self._run.get_output_details().items()
        self.shapes = (tuple(taken["shape"]), tuple(made["shape"]))

    def __call__(self, tensor: npt.NDArray[Any]) -> Features:
        made: Features = self._run(**{self._taken: tensor})[self._made]
        return made


class OnnxEngine:
    """ONNX Runtime on one thread: what those who read the lake run, and no step does."""

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.length = int(self._session.get_outputs()[0].shape[-1])
        self.feature_model = self._session.get_modelmeta().custom_metadata_map.get("feature_model")

    def features(self, pixels: Images) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""
        result: Features = self._session.run(None, {self._input: np.asarray(pixels)})[0]
        return result


class TensorFlowEngine:
    """The Keras model itself on one thread: the reference that the others are held against."""

    def __init__(self, backbone: str, weights: Weights) -> None:
        quiet_tensorflow(threads=1)
        import tensorflow as tf

        network = build_network(backbone)
        network.set_weights(weights)
        self.length = int(network.output_shape[-1])
        # One trace for any number of images; `predict` would pay for its own loop at every call.
        pixels = tf.TensorSpec((None, *network.input_shape[1:]), tf.uint8)
        self._call: Any = tf.function(
            lambda batch: network(batch, training=False), input_signature=[pixels]
        )

    def features(self, pixels: Images) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""
        result: Features = self._call(np.asarray(pixels)).numpy()
        return result


def make_engine(backbone: str, parameters: bytes | Weights) -> Engine:
    """Return the engine that *parameters* are for: a LiteRT model's bytes or Keras weights."""
    if isinstance(parameters, bytes):
        return LiteRtEngine(parameters)
    return TensorFlowEngine(backbone, parameters)
