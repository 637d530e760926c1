"""The network's weights as a file with a name for what it computes: the feature model."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fruits.errors import FruitsError, MissingObjectError
from fruits.exporters import run_exporter
from fruits.job_package import EXPORT_NETWORK, package_hash

log = logging.getLogger(__name__)


class WeightsError(FruitsError):
    """The weights asked for cannot be had, or are not the backbone's."""


@dataclass(frozen=True)
class Weights:
    """One weights file: *path*, its *sha256*, *source* (file, imagenet or seeded).

    *feature_model* names backbone, preprocessing and weights: rows with the same name were computed
    the same way.
    """

    path: str
    sha256: str
    feature_model: str
    source: str


def backbone_of(feature_model: str) -> str:
    """Return the Keras application that a feature model begins with."""
    return feature_model.partition("-")[0]


def resolve_weights(backbone: str, wanted: str, cache_folder: Path, lake: str) -> Weights:
    """Return the weights that *wanted* means for *backbone*: a setting, see FRUITS_WEIGHTS.

    ``auto`` takes ImageNet weights where they can be had, else seeded ones, and keeps to what it
    took first; ``published`` takes those that `fruits.publishing` put into the *lake*. For others
    TensorFlow loads once per file and version of the jobs, in a process of its own; the answer is
    kept in *cache_folder*. Raises WeightsError with the way out.
    """
    if wanted == "published":
        return _published(backbone, lake)
    if wanted != "auto":
        return _describe(backbone, wanted, cache_folder)
    for source in ("imagenet", "seeded"):
        if known := _known(_answer_file(backbone, source, cache_folder)):
            return known
    try:
        return _describe(backbone, "imagenet", cache_folder)
    except WeightsError as error:
        log.warning("%s", error.what)
        return _describe(backbone, "seeded", cache_folder)


def publish_weights(weights: Weights, backbone: str, lake: str) -> None:
    """Write down in the *lake* that these are the weights of *backbone* from now on.

    Whoever reads it needs neither the file nor TensorFlow.
    """
    from fruits.objects import write_json

    about = asdict(weights) | {"path": Path(weights.path).name, "jobs": package_hash()}
    write_json(_published_uri(backbone, lake), about)


def export_network(weights: Weights, *outputs: Path) -> None:
    """Write the network of *weights*, uint8[N,224,224,3] -> float32[N,D], to files by suffix.

    A .tflite is for the featurize step, an .onnx for those who read the lake.
    """
    backbone, files = backbone_of(weights.feature_model), map(str, outputs)
    _run("network", "--backbone", backbone, "--weights", weights.path, "--output", *files)


def published_weights(backbone: str, lake: str) -> Weights | None:
    """Return the weights of *backbone* that were published last, by whatever version."""
    about = _about_published(backbone, lake)
    return Weights(**{name: about[name] for name in about if name != "jobs"}) if about else None


def publish_command(backbone: str, weights: str = "...") -> str:
    """Return what puts *weights* of *backbone* into the stack's lake: it may not be the default."""
    return f"FRUITS_BACKBONE={backbone} make aws-publish WEIGHTS={weights}"


def _about_published(backbone: str, lake: str) -> dict[str, Any] | None:
    from fruits.objects import read_json

    try:
        return dict(read_json(_published_uri(backbone, lake)))
    except MissingObjectError:
        return None


def _published(backbone: str, lake: str) -> Weights:
    about = _about_published(backbone, lake)
    if about is None:
        raise WeightsError(
            f"No weights of {backbone} were published into {lake}.",
            f"{publish_command(backbone)} (a file, or imagenet)",
        )
    # What computes features is part of their name: jobs and weights are published together.
    if about.pop("jobs") != package_hash():
        raise WeightsError(
            f"The weights of {backbone} in {lake} were published with other jobs than these.",
            f"Publish again from the version that runs: {publish_command(backbone)}",
        )
    return Weights(**about)


def _published_uri(backbone: str, lake: str) -> str:
    return f"{lake}/weights/{backbone}.json"


def _describe(backbone: str, wanted: str, cache_folder: Path) -> Weights:
    answer = _answer_file(backbone, wanted, cache_folder)
    if known := _known(answer):
        return known
    folder = cache_folder / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--backbone", backbone, "--weights", wanted, "--output-folder", str(folder)]
    described = json.loads(_run("weights", *arguments).splitlines()[-1])
    weights = Weights(path=described.pop("weights"), **described)
    answer.parent.mkdir(parents=True, exist_ok=True)
    partial = answer.with_name(f"partial-{secrets.token_hex(4)}")
    partial.write_text(json.dumps(asdict(weights)))
    partial.replace(answer)  # never half of it, for whoever looks meanwhile
    return weights


def _answer_file(backbone: str, wanted: str, cache_folder: Path) -> Path:
    """Return where the answer for these weights and this version of the jobs is kept."""
    name = wanted if wanted in ("imagenet", "seeded") else _sha256(Path(wanted))
    return cache_folder / "answers" / f"{backbone}-{name}-{package_hash()[:12]}.json"


def _known(answer: Path) -> Weights | None:
    if not answer.exists():
        return None
    weights = Weights(**json.loads(answer.read_text()))
    file = Path(weights.path)
    # Its name may have got other bytes since.
    return weights if file.exists() and _sha256(file) == weights.sha256 else None


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise WeightsError(
            f"There is no weights file {file}.",
            "Give a .h5 file of the backbone without its head, or imagenet, or seeded "
            "(WEIGHTS=... for make, the setting FRUITS_WEIGHTS elsewhere).",
        )
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _run(*arguments: str) -> str:
    return run_exporter(EXPORT_NETWORK, *arguments, failure=WeightsError)
