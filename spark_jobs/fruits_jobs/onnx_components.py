"""One ONNX model from pixels to components, so that a phone can compare a photo with the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fruits_jobs.bases import Basis

if TYPE_CHECKING:
    import onnx


class NotThisNetwork(ValueError):  # noqa: N818
    """The network makes *made* features, the PCA version was fitted to *fitted*."""

    def __init__(self, made: str, fitted: str) -> None:
        super().__init__(
            f"the network makes {made}, and the PCA version was fitted to {fitted}:"
            " take the network that lies under networks/ with the name of the feature model"
        )
        self.made, self.fitted = made, fitted


def with_components(network: bytes, basis: Basis, feature_model: str, version: str) -> bytes:
    """Return *network* with scaling and projection behind it.

    The model takes uint8[N, 224, 224, 3] and gives float32[N, k], called components. Its metadata
    name the feature model and the PCA version.
    NotThisNetwork if the network's own metadata name another feature model.
    """
    import onnx

    model = onnx.load_from_string(network)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    made = metadata.get("feature_model", "features of no name")
    if made != feature_model:
        raise NotThisNetwork(made, feature_model)
    _append(model, basis)
    model.metadata_props.add(key="pca_model_version", value=version)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _append(model: onnx.ModelProto, basis: Basis) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    features = graph.output[0].name
    constants = {"pca_mean": basis.mean, "pca_matrix": basis.basis / basis.scale[:, None]}
    for name, values in constants.items():
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    # The mean goes first: a product of the raw features would lose what it is then taken from.
    graph.node.append(helper.make_node("Sub", [features, "pca_mean"], ["pca_centred"]))
    product = helper.make_node("MatMul", ["pca_centred", "pca_matrix"], ["components"])
    graph.node.append(product)
    del graph.output[:]
    output = helper.make_tensor_value_info("components", TensorProto.FLOAT, ["N", basis.k])
    graph.output.append(output)
