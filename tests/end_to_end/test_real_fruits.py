"""Real photographs through a real network: the numbers in the tables are the right ones."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest

from tests.end_to_end.cloud_batches import CloudBatches

WEIGHTS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


@pytest.fixture(scope="module")
def fruits(batches: CloudBatches, shared: Path) -> CloudBatches:
    """Ingest all 1,960 images of Fruits-360 with ImageNet weights."""
    batches.weights = str(shared / "weights" / WEIGHTS)
    for image in sorted((shared / "data" / "fruits360").rglob("*.jpg")):
        batches.add(image, f"{image.parent.name}/{image.name}")
    done = batches.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return batches


@pytest.fixture(scope="module")
def features(fruits: CloudBatches) -> pa.Table:
    """Return the rows of features, sorted by image_key."""
    return fruits.rows("features")


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of lists as float32[N, D]."""
    return np.stack(column.to_numpy())


def test_every_image_has_features(features: pa.Table, fruits: CloudBatches) -> None:
    """1,960 images give 1,960 rows, and none is quarantined."""
    assert features.num_rows == 1960
    assert fruits.rows("quarantine").num_rows == 0
    assert len(features["label"].unique()) == 49


def test_features_are_those_of_keras(
    features: pa.Table, fruits: CloudBatches, shared: Path
) -> None:
    """100 random rows equal Keras on the same pixels, decoded here by Pillow, within 1e-4."""
    import keras

    network = keras.applications.MobileNetV2(include_top=False, pooling="avg", weights=None)
    network.load_weights(shared / "weights" / WEIGHTS)
    rows = features.take(random.Random(1).sample(range(features.num_rows), 100))
    pixels = fruits.pixels(rows["image_key"].to_pylist())

    expected = network.predict(
        keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32)), verbose=0
    )

    np.testing.assert_allclose(matrix(rows["features"]), expected, atol=1e-4, rtol=0)


def test_components_are_those_of_scikit_learn(features: pa.Table, fruits: CloudBatches) -> None:
    """All components equal scikit-learn's PCA in float64, up to sign, within 1e-5 of the norm."""
    from sklearn.decomposition import PCA

    rows = fruits.rows("components")
    assert rows["image_key"].to_pylist() == features["image_key"].to_pylist()
    found, data = matrix(rows["components"]), matrix(features["features"]).astype(np.float64)

    expected = PCA(n_components=found.shape[1], svd_solver="full").fit_transform(data)
    signs = np.sign((expected * found).sum(axis=0))

    norm = np.linalg.norm(data - data.mean(axis=0))
    assert np.linalg.norm(found * signs - expected) < 1e-5 * norm


def test_the_variance_target_is_met_with_the_fewest_components(fruits: CloudBatches) -> None:
    """The k components keep 95% of the total variance, and k - 1 do not."""
    model = fruits.result("pca")["model"]
    kept = np.cumsum(model["explained_variance_ratio"])

    assert model["variance_target_met"]
    assert kept[-1] >= 0.95 > kept[-2]


def test_the_same_bucket_again_needs_no_cluster(fruits: CloudBatches) -> None:
    """A second run finds nothing new among 1,960 images."""
    before = fruits.clusters_created()

    done = fruits.run()

    assert done.returncode == 0, done.stdout + done.stderr
    assert fruits.clusters_created() == before == 1


def test_reduction_costs_under_a_point_of_label_accuracy(fruits: CloudBatches) -> None:
    """Nearest neighbours find the label as often with components as with features, or nearly."""
    quality = fruits.result("pca")["model"]["quality"]

    assert (quality["sampled_images"], quality["sampled_labels"]) == (1960, 49)
    # With the near half of each series held out, 49 labels are hard to tell; guessing gives 2%.
    assert quality["label_accuracy_before"] > 0.5
    assert quality["label_accuracy_after"] > quality["label_accuracy_before"] - 0.01


def test_the_exported_model_gives_the_tables_components(
    fruits: CloudBatches, tmp_path: Path
) -> None:
    """100 random photos through the one ONNX file equal their rows within 1e-3."""
    target = tmp_path / "fruits.onnx"
    rows = fruits.rows("components")
    rows = rows.take(random.Random(2).sample(range(rows.num_rows), 100))

    done = fruits.export("onnx", "--output", str(target))

    assert done.returncode == 0, done.stdout + done.stderr
    session = onnxruntime.InferenceSession(target)
    pixels = fruits.pixels(rows["image_key"].to_pylist())
    (found,) = session.run(["components"], {session.get_inputs()[0].name: pixels})
    np.testing.assert_allclose(found, matrix(rows["components"]), atol=1e-3, rtol=0)


def test_plots_lie_beside_the_model(fruits: CloudBatches) -> None:
    """Both plots, as PNG and SVG."""
    model = fruits.result("pca")["model"]
    folder = fruits.model_folder(model["model_version"])

    assert sorted(Path(name).suffix for name in model["plots"]) == [".png", ".png", ".svg", ".svg"]
    assert all((folder / name).stat().st_size > 10_000 for name in model["plots"])


def test_a_new_day_keeps_the_version_and_projects_its_own_images(
    fruits: CloudBatches, shared: Path
) -> None:
    """Told never to refit, a day of five images makes five rows of the version that is there."""
    before = fruits.rows("components")
    for image in sorted((shared / "data" / "fruits360" / "Apple 5").glob("*.jpg"))[:5]:
        fruits.add(image, f"New fruit/{image.name}")

    done = fruits.run(refit="never")

    assert done.returncode == 0, done.stdout + done.stderr
    result, after = fruits.result("pca"), fruits.rows("components")
    assert (result["fitted"], result["components"]["rows"]) == (False, 5)
    assert result["statistics"]["rows_loaded"] == 1960
    assert after.num_rows == 1965
    assert len(after["model_version"].unique()) == 1
    assert set(before["image_key"].to_pylist()) < set(after["image_key"].to_pylist())
    assert "kept: refit is set to never" in " ".join(done.stdout.replace("│", " ").split())
