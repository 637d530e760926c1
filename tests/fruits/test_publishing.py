"""What clusters take from the lake: published once, under the names that requests give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fruits import publishing
from fruits.objects import client, exists, read_bytes, write_bytes
from fruits.publishing import publish
from fruits.settings import Engine, Settings
from fruits.staging import stage_jobs
from fruits.weights import Weights, WeightsError, publish_weights, resolve_weights
from fruits.wheelhouse import (
    LOCKS,
    WheelhouseError,
    download_wheels,
    lock_sha256,
    upload_wheels,
    wheelhouse_uri,
)
from local_cloud.s3 import ObjectStorage
from tests.bootstrap.wheelhouses import make_wheelhouse, pins

REGION = "eu-west-3"


def test_a_wheelhouse_is_sent_once(storage: ObjectStorage, tmp_path: Path) -> None:
    """A second time nothing is sent; a lost object is sent again."""
    lock = make_wheelhouse(tmp_path / "wheels", "apple", "pear")
    uri = f"s3://fruits-lake/wheelhouses/{lock}"

    assert upload_wheels(tmp_path / "wheels", uri, REGION)[0] == 4
    assert upload_wheels(tmp_path / "wheels", uri, REGION) == (0, 0)
    pear = f"wheelhouses/{lock}/pear-1.0-py3-none-any.whl"
    client(REGION).delete_object(Bucket="fruits-lake", Key=pear)
    assert upload_wheels(tmp_path / "wheels", uri, REGION)[0] == 1


def test_the_lock_is_the_last_to_come(
    storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheelhouse that is being published is not taken for a whole one."""
    lock = make_wheelhouse(tmp_path / "wheels", "apple")
    sent: list[str] = []
    monkeypatch.setattr("fruits.objects.upload", lambda path, uri: sent.append(path.name))

    upload_wheels(tmp_path / "wheels", f"s3://fruits-lake/wheelhouses/{lock}", REGION)

    assert sent[-1] == "requirements.txt"
    assert len(sent) == 3


@pytest.mark.parametrize("engine", list(Engine))
def test_nodes_have_the_versions_that_we_test(engine: Engine) -> None:
    """Each pin of a node is the one of requirements.txt; pip alone is the node's own."""
    root = LOCKS[engine].parents[2]
    ours = pins(root / "requirements.txt")

    different = {pin for pin in pins(LOCKS[engine]) if pin not in ours}

    assert {pin.partition("==")[0] for pin in different} == {"pip"}


def test_nodes_get_no_pyspark() -> None:
    """EMR's own Spark must not be shadowed."""
    assert not [pin for lock in LOCKS.values() for pin in pins(lock) if "pyspark" in pin]


def test_engines_have_wheelhouses_of_their_own() -> None:
    """TensorFlow's 250 MB are not for nodes that run LiteRT."""
    uris = {engine: wheelhouse_uri("s3://lake", engine) for engine in Engine}

    assert uris[Engine.LITERT].endswith(lock_sha256(LOCKS[Engine.LITERT]))
    assert len(set(uris.values())) == 2


def test_wheels_that_cannot_be_had_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip said last comes with what to do."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # the answer is known: nobody need be asked
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"no-such==1 --hash=sha256:{'0' * 64}\npip==26.2 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(WheelhouseError, match=r"(?s)cannot be downloaded.*no-such==1.*x86_64"):
        download_wheels(lock, tmp_path / "wheels")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Stand in for TensorFlow, which would describe and export the weights."""
    file = tmp_path / "weights.h5"
    file.write_bytes(b"weights")
    described = Weights(str(file), "1" * 64, "model", "imagenet")
    monkeypatch.setattr(publishing, "resolve_weights", lambda *_: described)
    monkeypatch.setattr(
        "fruits.staging._exported", lambda _, __, kinds: dict.fromkeys(kinds, b"network")
    )
    return described


def test_everything_that_a_request_names_is_published(
    storage: ObjectStorage, weights: Weights, tmp_path: Path
) -> None:
    """After it a run uploads nothing, and every URI of the cluster's request is there."""
    make_wheelhouse(tmp_path / "wheels", "apple")

    published = publish(Settings(), wheels=tmp_path / "wheels", weights_sha256=weights.sha256)

    wheelhouse = published.pop("wheelhouse")
    known = resolve_weights("MobileNetV2", "published", tmp_path, "s3://fruits-lake")
    assert (known.sha256, known.feature_model) == (weights.sha256, weights.feature_model)
    assert read_bytes(f"{wheelhouse}/requirements.txt").startswith(b"pip==")
    assert all(exists(uri, REGION) for uri in published.values())
    again = stage_jobs("s3://fruits-lake", REGION, weights)
    assert again.install_python_env == published["install_python_env"]


def test_a_network_of_one_part_is_neither_used_nor_touched(
    storage: ObjectStorage, weights: Weights
) -> None:
    """Jobs of before decision 0019 may still run on it, and would not understand the other."""
    old = f"s3://fruits-lake/networks/{weights.feature_model}.tflite"
    write_bytes(old, b"whole", REGION)

    staged = stage_jobs("s3://fruits-lake", REGION, weights)

    assert staged.network == old.replace(".tflite", ".parts.tflite")
    assert read_bytes(staged.network) == b"network"
    assert read_bytes(old) == b"whole"


@pytest.mark.parametrize(
    ("wanted", "sha256", "message"),
    [
        ("seeded", "", "names no weights"),
        ("auto", "", "names no weights"),
        ("published", "", "names no weights"),
        ("imagenet", "", "aws-publish WEIGHTS=imagenet WEIGHTS_SHA256=1111"),
        ("imagenet", "2" * 64, "not 2222"),
    ],
)
def test_weights_are_pinned(weights: Weights, wanted: str, sha256: str, message: str) -> None:
    """Nothing that was downloaded is published unless somebody said which bytes it is."""
    with pytest.raises(WeightsError, match=message):
        publish(Settings(weights=wanted), weights_sha256=sha256)


def test_a_misspelt_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is published must not go into the default's lake because of a slip."""
    monkeypatch.setenv("FRUITS_LAKE_URL", "s3://ours")

    assert publishing.main([]) == 1
    assert "is it FRUITS_LAKE_URI?" in caplog.text


def test_published_weights_are_those_of_these_jobs(
    storage: ObjectStorage, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything was published, and after the jobs changed, the error says what to do."""
    asked = ("MobileNetV2", "published", tmp_path, "s3://fruits-lake")

    with pytest.raises(WeightsError, match="were published into s3://fruits-lake"):
        resolve_weights(*asked)
    publish_weights(weights, "MobileNetV2", "s3://fruits-lake")
    monkeypatch.setattr("fruits.weights.package_hash", lambda: "another version's")
    with pytest.raises(WeightsError, match="other jobs than these"):
        resolve_weights(*asked)
