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


class Engine(Protocol):
    """What turns pixels into features: *length* floats per image."""

    length: int

    def features(self, pixels: Images) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""


class LiteRtEngine:
    """LiteRT (TensorFlow Lite with XNNPACK) on one thread, from the bytes of an exported network.

    ValueError if they are none.
    """

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        # Spark runs one task per core: threads of our own would only fight over them.
        self._interpreter = Interpreter(model_content=model, num_threads=1)
        self._interpreter.allocate_tensors()
        (pixels,), (output,) = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        self._input, self._output = pixels["index"], output["index"]
        self.length = int(output["shape"][-1])
        self.feature_model = next(iter(self._interpreter.get_signature_list()), None)

    def features(self, pixels: Images) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""
        found = np.empty((len(pixels), self.length), np.float32)
        for at in range(len(pixels)):
            self._interpreter.set_tensor(self._input, pixels[at][np.newaxis])
            self._interpreter.invoke()
            found[at] = self._interpreter.get_tensor(self._output)[0]
        return found


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
