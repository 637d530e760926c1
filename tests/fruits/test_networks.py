"""Which network a run computes: that of the tables, unless it is told to reprocess."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fruits import networks
from fruits.networks import (
    OutdatedModelError,
    choose_network,
    read_origin,
    weights_at_hand,
    write_origin,
)
from fruits.objects import write_json
from fruits.settings import Settings
from fruits.weights import Weights, WeightsError, _known, publish_weights
from local_cloud.s3 import ObjectStorage

LAKE = "s3://fruits-lake"


def made_of(backbone: str, digit: str) -> Weights:
    """Return weights whose SHA-256 is one digit; their file is nowhere."""
    name = f"{backbone}-224-bilinear-v2-{digit * 12}"
    return Weights(f"{backbone}.h5", digit * 64, name, "file")


MOBILE, RESNET, RETRAINED = (
    made_of("MobileNetV2", "1"),
    made_of("ResNet50", "2"),
    made_of("MobileNetV2", "3"),
)


@pytest.fixture
def lake(storage: ObjectStorage) -> str:
    """Return a lake into which weights of two backbones were published."""
    for weights in (MOBILE, RESNET):
        publish_weights(weights, weights.feature_model.partition("-")[0], LAKE)
    return LAKE


def asked(tmp_path: Path, **more: str) -> Settings:
    """Return settings that take published weights."""
    return Settings(**{"weights": "published", "cache_folder": tmp_path, **more})


def test_a_new_lake_takes_what_the_settings_name(lake: str, tmp_path: Path) -> None:
    """The first batch's network is not beside anything."""
    choice = choose_network(asked(tmp_path, backbone="ResNet50"), None)

    assert (choice.weights, choice.beside, choice.overruled) == (RESNET, False, "")


def test_an_ordinary_run_goes_by_the_tables(lake: str, tmp_path: Path) -> None:
    """Neither another backbone nor a weights file that is gone changes what it computes."""
    write_origin(lake, RESNET)
    settings = asked(tmp_path, backbone="MobileNetV2", weights=str(tmp_path / "gone.h5"))

    choice = choose_network(settings, RESNET.feature_model)

    assert (choice.weights, choice.beside) == (RESNET, False)
    assert choice.overruled == "the backbone MobileNetV2"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [("published", ""), ("auto", ""), ("seeded", "other weights"), ("file.h5", "other weights")],
)
def test_weights_that_are_overruled_are_told(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, told: str
) -> None:
    """Who changed the weights and sees no difference finds the reason in the log."""
    monkeypatch.chdir(tmp_path)
    Path("file.h5").write_bytes(b"other weights")
    write_origin(lake, MOBILE)

    choice = choose_network(asked(tmp_path, weights=wanted), MOBILE.feature_model)

    assert choice.weights == MOBILE
    assert choice.overruled.startswith(told)
    assert bool(choice.overruled) == bool(told)


def test_newly_published_weights_wait_for_a_reprocess(lake: str, tmp_path: Path) -> None:
    """Publishing other weights of the same backbone featurizes nothing by itself."""
    write_origin(lake, MOBILE)
    publish_weights(RETRAINED, "MobileNetV2", lake)

    ordinary = choose_network(asked(tmp_path), MOBILE.feature_model)
    told_to = choose_network(asked(tmp_path, reprocess="MobileNetV2"), MOBILE.feature_model)

    assert (ordinary.weights, ordinary.overruled) == (MOBILE, "other weights (published)")
    assert (told_to.weights, told_to.beside) == (RETRAINED, True)


def test_reprocessing_with_the_current_network_is_an_ordinary_run(
    lake: str, tmp_path: Path
) -> None:
    """It removes what is gone, too: it is beside nothing."""
    write_origin(lake, MOBILE)

    choice = choose_network(asked(tmp_path, reprocess="MobileNetV2"), MOBILE.feature_model)

    assert (choice.weights, choice.beside) == (MOBILE, False)


def test_weights_of_a_backbone_that_nobody_published(lake: str, tmp_path: Path) -> None:
    """Reprocess says what to do before it costs anything."""
    with pytest.raises(WeightsError, match="FRUITS_BACKBONE=EfficientNetB0 make aws-publish"):
        choose_network(asked(tmp_path, reprocess="EfficientNetB0"), MOBILE.feature_model)


def test_another_version_proves_that_it_computes_the_same(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that changed have to give the weights the same name again."""
    with monkeypatch.context() as before:
        before.setattr(networks, "package_hash", lambda: "of the version before")
        write_origin(lake, MOBILE)

    assert choose_network(asked(tmp_path), MOBILE.feature_model).weights == MOBILE
    publish_weights(RETRAINED, "MobileNetV2", lake)
    with pytest.raises(OutdatedModelError, match="Reprocess = MobileNetV2") as refused:
        choose_network(asked(tmp_path), MOBILE.feature_model)

    assert refused.value.current == MOBILE.feature_model
    assert refused.value.computed == RETRAINED.feature_model


def test_another_machine_finds_the_weights_again(lake: str, tmp_path: Path) -> None:
    """Who stages may not be who sensed: other weights under the same name are refused."""
    here = tmp_path / "here.h5"
    here.touch()
    sensed = replace(MOBILE, path=str(here))

    assert weights_at_hand(asked(tmp_path), sensed) == sensed
    assert weights_at_hand(asked(tmp_path), replace(sensed, path="there/there.h5")) == MOBILE
    with pytest.raises(OutdatedModelError, match="111111111111 with the weights"):
        weights_at_hand(asked(tmp_path), replace(RETRAINED, path="there/there.h5"))


def test_the_origin_is_written_when_it_is_news(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each version that computes a model."""
    written = []
    monkeypatch.setattr(
        networks, "write_json", lambda uri, about: (written.append(uri), write_json(uri, about))
    )

    write_origin(LAKE, MOBILE)
    write_origin(LAKE, MOBILE)

    origin = read_origin(LAKE, MOBILE.feature_model)
    assert written == [f"{LAKE}/networks/{MOBILE.feature_model}.json"]
    assert origin is not None
    assert (origin.file, origin.sha256) == ("MobileNetV2.h5", "1" * 64)
    assert read_origin(LAKE, RESNET.feature_model) is None


def test_what_is_known_of_a_file_is_not_believed_of_other_bytes(tmp_path: Path) -> None:
    """The file that was described may have been replaced under its name since."""
    file, answer = tmp_path / "w.h5", tmp_path / "answer.json"
    file.write_bytes(b"old")
    described = replace(MOBILE, path=str(file), sha256=hashlib.sha256(b"old").hexdigest())
    answer.write_text(json.dumps(asdict(described)))

    assert _known(answer) == described
    file.write_bytes(b"new")
    assert _known(answer) is None
