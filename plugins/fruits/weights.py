"""The network's weights as a file with a name for what it computes: the feature model."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from fruits.errors import FruitsError
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


def resolve_weights(backbone: str, wanted: str, cache_folder: Path) -> Weights:
    """Return the weights that *wanted* (a file, imagenet, seeded or auto) means for *backbone*.

    ``auto`` takes ImageNet weights where they can be had, else seeded ones, and keeps to what it
    took first. TensorFlow loads once per file and version of the jobs, in a process of its own; the
    answer is kept in *cache_folder*. Raises WeightsError with the way out.
    """
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


def export_network(weights: Weights, backbone: str, output: Path) -> None:
    """Write the network of *weights* as ONNX to *output*: uint8[N,224,224,3] -> float32[N,D]."""
    arguments = ["--backbone", backbone, "--weights", weights.path, "--output", str(output)]
    _run("onnx", *arguments)


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
    return weights if Path(weights.path).exists() else None


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
    # TensorFlow stays in its own process: it would cost each Airflow worker 500 MB for good.
    command = [sys.executable, str(EXPORT_NETWORK), *arguments]
    environment = os.environ | {"PYTHONPATH": str(EXPORT_NETWORK.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise WeightsError(lines[-1].removeprefix("export_network failed: "), "")
    return done.stdout
