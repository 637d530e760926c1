"""One ONNX file from pixels to components: the same numbers as the table's."""

from __future__ import annotations

import hashlib

import numpy as np
import onnxruntime
import pytest

from export_components import export, parser
from fruits_jobs.bases import Wish, fit
from fruits_jobs.engines import OnnxEngine
from fruits_jobs.objects import write_bytes, write_json
from fruits_jobs.onnx_components import NotThisNetwork, with_components
from fruits_jobs.pca_models import npz
from fruits_jobs.seeded_weights import synthetic_images
from fruits_jobs.statistics import Statistics

LAKE = "s3://fruits-lake"
REGION = "eu-west-3"


@pytest.mark.parametrize("scaler", ["none", "standard", "minmax"])
def test_raw_pixels_give_the_tables_components(storage, network, tmp_path, scaler):
    """The command's file gives within 1e-3 what network and PCA give one after the other."""
    pixels = synthetic_images(24, np.random.default_rng(5))
    engine = OnnxEngine(network.onnx.read_bytes())
    features = engine.features(pixels)
    basis = fit(Statistics.of(features), Wish(k=8), scaler)
    write_bytes(f"{LAKE}/networks/n.onnx", network.onnx.read_bytes(), REGION)
    archive = npz(basis)
    write_bytes(f"{LAKE}/models/pca/v/pca.npz", archive, REGION)
    description = {
        "pca_npz_sha256": hashlib.sha256(archive).hexdigest(),
        "feature_model": network.feature_model,
        "model_version": "v",
        "variance_target_met": None,
        "scaler": scaler,
    }
    write_json(f"{LAKE}/models/pca/v/model.json", description, REGION)
    output = tmp_path / "new" / "fruits.onnx"
    words = ["--network", f"{LAKE}/networks/n.onnx", "--model", f"{LAKE}/models/pca/v"]

    export(parser().parse_args([*words, "--output", str(output)]))

    session = onnxruntime.InferenceSession(output)
    (found,) = session.run(["components"], {session.get_inputs()[0].name: pixels})
    expected = basis.components(features)
    assert found.shape == (24, 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-3 * max(1, np.abs(expected).max()))
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["pca_model_version"] == "v"
    assert properties["feature_model"] == network.feature_model


def test_another_networks_pca_is_refused(network):
    """A basis of other features would give numbers that look right."""
    X = np.random.default_rng(1).normal(size=(9, 1280)).astype(np.float32)
    basis = fit(Statistics.of(X), Wish(k=2))

    with pytest.raises(NotThisNetwork, match="was fitted to another"):
        with_components(network.onnx.read_bytes(), basis, "another", "v")
