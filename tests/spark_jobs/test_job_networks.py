"""Networks, engines and weights: one definition of a feature, whatever computes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from fruits.params import BACKBONES
from fruits_jobs.engines import LiteRtEngine, OnnxEngine, TensorFlowEngine
from fruits_jobs.images import decode
from fruits_jobs.network_export import (
    NetworksDiffer,
    export_networks,
    largest_difference,
    to_litert,
)
from fruits_jobs.network_parts import early_and_late
from fruits_jobs.networks import (
    UnknownBackbone,
    WeightsDoNotFit,
    backbones,
    body_of,
    build_network,
    feature_model_name,
    load_network,
    read_weights,
    sha256_of,
)
from fruits_jobs.seeded_weights import synthetic_images, write_seeded_weights

JOBS = Path(__file__).resolve().parents[2] / "spark_jobs"


def pixels(count: int = 5) -> np.ndarray:
    return synthetic_images(count, np.random.default_rng(3))


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run export_network.py as Airflow does."""
    return subprocess.run(
        [sys.executable, str(JOBS / "export_network.py"), *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def test_all_engines_equal_keras(network):
    """Whichever engine a step was given, its features are those of Keras within 1e-4."""
    expected = load_network("MobileNetV2", network.weights).predict(pixels(), verbose=0)
    data = network.weights.read_bytes()

    litert = LiteRtEngine(network.network.read_bytes())
    onnx = OnnxEngine(network.onnx.read_bytes())
    keras = TensorFlowEngine("MobileNetV2", read_weights("MobileNetV2", network.weights.name, data))

    for engine in (litert, onnx, keras):
        assert engine.length == 1280
        assert engine.features(pixels()).dtype == np.float32
        assert np.abs(engine.features(pixels()) - expected).max() < 1e-4
        assert engine.features(pixels()[:1]).shape == (1, 1280)


def test_features_do_not_depend_on_company(network):
    """Late layers take several images at once, some of them left over: no bit may show that."""
    engine = LiteRtEngine(network.network.read_bytes())
    together = engine.features(pixels(11))

    for at in range(11):
        assert np.array_equal(engine.features(pixels(11)[at : at + 1])[0], together[at])


def test_two_parts_compute_what_one_does(network):
    """Parting a network changes how fast it is, and nothing else."""
    keras = load_network("MobileNetV2", network.weights)

    whole = LiteRtEngine(to_litert(keras, "whole", whole=True))
    parted = LiteRtEngine(network.network.read_bytes())

    assert np.abs(whole.features(pixels(9)) - parted.features(pixels(9))).max() < 1e-5


MIDDLES = {
    "MobileNetV2": (64, "block_9_add"),
    "MobileNet": (256, "conv_dw_6_relu"),
    "MobileNetV3Large": (80, "expanded_conv_9_add"),
    "EfficientNetB0": (80, "block4c_add"),
    "ResNet50": (1024, "conv4_block6_out"),
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_network_is_parted_where_little_passes(backbone):
    """Networks with and without skips: what passes is small, and all that late layers need."""
    import keras

    whole = build_network(backbone)
    early, late = early_and_late(whole)

    channels, last = MIDDLES[backbone]
    assert early.output_shape == (None, 14, 14, channels)
    assert body_of(early).layers[-1].name == last
    assert early.count_params() < late.count_params()
    assert early.count_params() + late.count_params() == whole.count_params()
    expected = keras.ops.convert_to_numpy(whole(pixels(2), training=False))
    found = keras.ops.convert_to_numpy(late(early(pixels(2), training=False), training=False))
    assert np.array_equal(found, expected)


def network_with(end):
    """Return a small network that *end* completes, from its input and a tensor of 14 x 14 x 4."""
    import keras

    keras.utils.set_random_seed(0)
    inside = keras.Input((224, 224, 3))
    small = keras.layers.Conv2D(4, 3, strides=16, padding="same")(inside)
    body = keras.Model(inside, end(inside, small), name="MobileNetV2")
    given = keras.Input((224, 224, 3), dtype="uint8")
    return keras.Model(given, body(keras.ops.cast(given, "float32") / 127.5 - 1))


def late_layers(tensor):
    """Return what some layers with many weights make of *tensor*."""
    import keras

    wide = keras.layers.Conv2D(4, 9, padding="same")(tensor)
    return keras.layers.GlobalAveragePooling2D()(wide)


def splitting(_, small):
    """Let an operation have two outputs."""
    import keras

    left, right = keras.ops.split(small, 2, axis=-1)
    return late_layers(keras.ops.concatenate([right, left], -1))


def around(inside, small):
    """Let the last operation read the network's input, too."""
    import keras

    return keras.layers.Dense(4)(keras.ops.mean(inside, (1, 2))) + late_layers(small)


def nested(inside, _):
    """Let a model be a layer."""
    import keras

    taken = keras.Input((224, 224, 3))
    model = keras.Model(taken, keras.layers.Conv2D(4, 3, strides=16, padding="same")(taken))
    return late_layers(model(inside))


@pytest.mark.parametrize(("end", "parted"), [(splitting, True), (around, False), (nested, False)])
def test_what_cannot_be_parted_stays_whole(end, parted):
    """Any network is exported, in two parts if one tensor carries everything."""
    network = network_with(end)

    engine = LiteRtEngine(to_litert(network, "n"))

    assert (early_and_late(network) is not None) == parted
    assert engine.feature_model == "n"
    expected = np.asarray(network(pixels(3), training=False))
    assert np.abs(engine.features(pixels(3)) - expected).max() < 1e-5


def test_a_network_whose_weights_are_early_stays_whole():
    """VGG16 is narrow only where nothing but its poolings is left."""
    assert early_and_late(build_network("VGG16")) is None


def test_a_model_of_somebody_else_is_refused():
    """A LiteRT file without a signature does not say what its features are."""
    import tensorflow as tf

    function = tf.function(lambda x: x, input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])

    with pytest.raises(ValueError, match=r"without a signature, so not one of export_network\.py"):
        LiteRtEngine(converter.convert())


def test_real_weights_give_the_features_of_plain_keras(shared, tmp_path):
    """On real photos all engines equal the application as its documentation uses it."""
    import keras

    weights = next((shared / "weights").glob("*.h5"))
    photos = sorted((shared / "data" / "fruits360").rglob("*.jpg"))[::200]
    images = np.stack([decode(photo.read_bytes()).pixels for photo in photos])
    plain = keras.applications.MobileNetV2(include_top=False, pooling="avg", weights=str(weights))
    prepared = keras.applications.mobilenet_v2.preprocess_input(images.astype(np.float32))
    expected = plain.predict(prepared, verbose=0)

    files = [tmp_path / "n.tflite", tmp_path / "n.onnx"]
    differences = export_networks("MobileNetV2", weights, files)
    litert, onnx = LiteRtEngine(files[0].read_bytes()), OnnxEngine(files[1].read_bytes())
    name = "MobileNetV2-224-bilinear-v2-715706dbcc4b"

    assert litert.feature_model == onnx.feature_model == name
    assert max(differences.values()) < 1e-4
    assert feature_model_name("MobileNetV2", sha256_of(weights.read_bytes())) == name
    assert np.abs(litert.features(images) - expected).max() < 1e-4
    assert np.abs(onnx.features(images) - expected).max() < 1e-4
    tensorflow = TensorFlowEngine(
        "MobileNetV2", read_weights("MobileNetV2", weights.name, weights.read_bytes())
    )
    assert np.abs(tensorflow.features(images) - expected).max() < 1e-4


def test_seeded_features_are_sane(network):
    """Seeded weights give features that vary, do not saturate, and tell images apart."""
    features = LiteRtEngine(network.network.read_bytes()).features(pixels(16))

    assert 0.1 < features.std() < 2
    assert (features < 5.9).mean() > 0.99
    assert (features.std(axis=0) > 1e-3).mean() > 0.9
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    assert distances[~np.eye(16, dtype=bool)].min() > 0.5


def test_seeded_weights_are_the_same_again_and_are_kept(network, tmp_path):
    """A second folder gets the same weights; an existing file is not touched."""
    again = tmp_path / "MobileNetV2-seeded.weights.h5"

    write_seeded_weights("MobileNetV2", again)
    written = again.stat().st_mtime_ns
    write_seeded_weights("MobileNetV2", again)

    assert load_equal(again, network.weights)
    assert again.stat().st_mtime_ns == written


def load_equal(one: Path, other: Path) -> bool:
    weights = [load_network("MobileNetV2", path).get_weights() for path in (one, other)]
    return all(np.allclose(a, b, atol=1e-6) for a, b in zip(*weights, strict=True))


def test_another_backbone_works_end_to_end(tmp_path):
    """The backbone is a parameter: ResNet50 has other preprocessing and 2048 features."""
    weights = tmp_path / "ResNet50-seeded.weights.h5"
    write_seeded_weights("ResNet50", weights)

    export_networks("ResNet50", weights, [tmp_path / "r.tflite"])

    engine = LiteRtEngine((tmp_path / "r.tflite").read_bytes())
    assert engine.length == 2048
    assert engine.feature_model.startswith("ResNet50-224-bilinear-v2-")
    assert np.isfinite(engine.features(pixels(2))).all()


def test_weights_of_another_backbone_are_refused(network):
    """The message names the file, the backbone and what would be right."""
    with pytest.raises(WeightsDoNotFit, match="does not load into MobileNet without its top"):
        load_network("MobileNet", network.weights)


def test_a_file_that_is_no_weights_is_refused(tmp_path):
    """A wrong upload fails before a cluster costs money."""
    (tmp_path / "x.h5").write_bytes(b"not hdf5 at all")

    with pytest.raises(WeightsDoNotFit, match=r"x\.h5 does not load"):
        load_network("MobileNetV2", tmp_path / "x.h5")


def test_all_backbones_of_the_trigger_form_are_known():
    """What an operator can choose, Keras has, with its own preprocessing."""
    assert set(BACKBONES) <= set(backbones())


def test_an_unknown_backbone_lists_the_known_ones():
    """A typo is answered with the names that exist."""
    with pytest.raises(UnknownBackbone, match=r"'MobilNet' is not.*MobileNetV2.*ResNet50"):
        build_network("MobilNet")


def test_an_export_that_is_off_is_never_written(network, tmp_path, monkeypatch):
    """Features of an engine that differs would silently mix with those of the other."""
    from fruits_jobs.network_export import FORMATS

    other = to_litert(build_network("MobileNetV2"), "other")
    monkeypatch.setitem(FORMATS, ".tflite", (lambda *_: other, LiteRtEngine))

    with pytest.raises(NetworksDiffer, match=r"exported as \.tflite is off Keras by"):
        export_networks(
            "MobileNetV2", network.weights, [tmp_path / "n.onnx", tmp_path / "n.tflite"]
        )
    assert list(tmp_path.iterdir()) == []


def test_the_difference_is_seen(network):
    """The check that guards the export can fail."""
    keras = load_network("MobileNetV2", network.weights)

    engine = LiteRtEngine(network.network.read_bytes())
    assert largest_difference(keras, engine) < 1e-4
    assert largest_difference(build_network("MobileNetV2"), engine) > 1e-2


def test_the_command_prints_json_on_its_last_line(network, tmp_path):
    """Airflow reads one line; TensorFlow's chatter is not on it."""
    done = command(
        *("weights", "--weights", str(network.weights), "--output-folder", str(tmp_path))
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    located = json.loads(done.stdout)
    assert located == {
        "weights": str(network.weights),
        "sha256": sha256_of(network.weights.read_bytes()),
        "feature_model": network.feature_model,
        "source": "file",
    }


def test_without_internet_imagenet_fails_quickly_with_a_way_out(tmp_path):
    """The message says what to do, and the exit code that it failed."""
    done = command(
        *("weights", "--weights", "imagenet", "--output-folder", str(tmp_path)),
        KERAS_HOME=str(tmp_path / "keras"),
        https_proxy="http://127.0.0.1:9",
    )

    assert done.returncode == 1
    assert (
        "export_network failed: DownloadFailed: the ImageNet weights of MobileNetV2"
        in (done.stderr.splitlines()[-1])
    )
    assert "'seeded' weights" in done.stderr.splitlines()[-1]


def test_the_parser_names_what_is_missing():
    """A caller's mistake ends with usage, not with a traceback."""
    from export_network import parser

    with pytest.raises(SystemExit):
        parser().parse_args(["weights"])
    words = ["network", "--weights", "w.h5", "--output", "n.tflite", "n.onnx"]
    parsed = parser().parse_args(words)
    assert isinstance(parsed, Namespace)
    assert parsed.backbone == "MobileNetV2"
    assert parsed.output == [Path("n.tflite"), Path("n.onnx")]
