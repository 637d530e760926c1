"""The two ways to run the network on one core, behind one small interface."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fruits_jobs.networks import Weights, build_network, quiet_tensorflow

Features = npt.NDArray[np.float32]


class Engine(Protocol):
    """What turns pixels into features: *length* floats per image."""

    length: int

    def features(self, pixels: npt.NDArray[np.uint8]) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""


class OnnxEngine:
    """ONNX Runtime on one thread, from the bytes of an exported network."""

    def __init__(self, model: bytes, *, to_run: bool = True) -> None:
        """Load *model*; if it is not *to_run*, only to know what it is, which is faster."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if not to_run:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Spark runs one task per core: threads of our own would only fight over them.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.length = int(self._session.get_outputs()[0].shape[-1])
        self.feature_model = self._session.get_modelmeta().custom_metadata_map.get("feature_model")

    def features(self, pixels: npt.NDArray[np.uint8]) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""
        result: Features = self._session.run(None, {self._input: pixels})[0]
        return result


class TensorFlowEngine:
    """The Keras model itself on one thread: the reference that ONNX is held against."""

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

    def features(self, pixels: npt.NDArray[np.uint8]) -> Features:
        """Return float32[N, D] for uint8[N, 224, 224, 3]."""
        result: Features = self._call(pixels).numpy()
        return result


def make_engine(backbone: str, parameters: bytes | Weights) -> Engine:
    """Return the engine that *parameters* are for: an ONNX model's bytes or Keras weights."""
    if isinstance(parameters, bytes):
        return OnnxEngine(parameters)
    return TensorFlowEngine(backbone, parameters)
