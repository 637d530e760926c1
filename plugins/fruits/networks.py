"""Which network a run computes: the one of the tables, or another beside it.

An ordinary run computes the tables' current feature model, whatever the settings say since; they
name the network of a lake's first batch, and of a run with *reprocess*. What a feature model was
made of lies in the lake beside its network, so that such a run needs no weights file.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fruits.errors import FruitsError, MissingObjectError
from fruits.job_package import package_hash
from fruits.objects import download, exists, read_json, write_json
from fruits.weights import Weights, backbone_of, published_weights, resolve_weights

if TYPE_CHECKING:
    from fruits.settings import Settings

log = logging.getLogger(__name__)


class OutdatedModelError(FruitsError):
    """This version cannot make more of the tables' features; fields: current, computed."""

    current: str
    computed: str


@dataclass(frozen=True)
class Choice:
    """The *weights* of the network that a run computes.

    *beside*: the tables' current feature model is another one. *overruled* is what the settings ask
    for and an ordinary run does not do; "" if they agree.
    """

    weights: Weights
    beside: bool = False
    overruled: str = ""


@dataclass(frozen=True)
class Origin:
    """What a feature model was made of: the weights *file* of that SHA-256, and by which *jobs*."""

    file: str
    sha256: str
    source: str
    jobs: str


def choose_network(settings: Settings, current: str | None) -> Choice:
    """Return the network of a run, *current* being the tables' feature model (None: a new lake).

    Raises OutdatedModelError if an ordinary run cannot compute it, WeightsError if the weights
    cannot be had.
    """
    if settings.reprocess or current is None:
        weights = _resolve(settings, settings.reprocess or settings.backbone, settings.weights)
        return Choice(weights, beside=current not in (None, weights.feature_model))
    origin = read_origin(settings.lake, current)
    if origin and origin.jobs == package_hash():
        weights = Weights(origin.file, origin.sha256, current, origin.source)
    else:
        weights = _made_again(settings, current, origin)
    return Choice(weights, overruled=_overruled(settings, weights))


def read_origin(lake: str, feature_model: str) -> Origin | None:
    """Return what *feature_model* was made of, None if no run of it was staged yet."""
    try:
        return Origin(**read_json(_origin_uri(lake, feature_model)))
    except MissingObjectError:
        return None


def write_origin(lake: str, weights: Weights) -> None:
    """Write down in the *lake* that these weights and this version's jobs make the model."""
    origin = Origin(Path(weights.path).name, weights.sha256, weights.source, package_hash())
    if read_origin(lake, weights.feature_model) != origin:
        write_json(_origin_uri(lake, weights.feature_model), vars(origin))


def weights_at_hand(settings: Settings, weights: Weights) -> Weights:
    """Return *weights* with a path on this machine, unless the lake has them and needs none.

    Raises OutdatedModelError if they are neither here nor there and the settings name others.
    """
    uri = staged_weights_uri(settings.lake, weights.sha256, Path(weights.path).name)
    if Path(weights.path).is_file() or exists(uri, settings.region):
        return weights
    # Another machine has sensed.
    again = _resolve(settings, backbone_of(weights.feature_model), settings.weights)
    _require_same(weights.feature_model, again)
    return again


def staged_weights_uri(lake: str, sha256: str, file: str) -> str:
    """Return where weights lie for the steps: under their content's hash."""
    return f"{lake}/weights/{sha256}/{file}"


def _origin_uri(lake: str, feature_model: str) -> str:
    return f"{lake}/networks/{feature_model}.json"


def _resolve(settings: Settings, backbone: str, wanted: str) -> Weights:
    return resolve_weights(backbone, wanted, settings.cache_folder, settings.lake)


def _made_again(settings: Settings, current: str, origin: Origin | None) -> Weights:
    """Return the weights of *current* once it is proven that these jobs still make it of them."""
    wanted = settings.weights
    if origin and wanted != "published":  # which needs no TensorFlow here
        uri = staged_weights_uri(settings.lake, origin.sha256, origin.file)
        folder = settings.cache_folder / "weights" / origin.sha256[:12]
        wanted = str(_kept(uri, folder / origin.file))
    weights = _resolve(settings, backbone_of(current), wanted)
    _require_same(current, weights)
    return replace(weights, source=origin.source) if origin else weights


def _require_same(current: str, weights: Weights) -> None:
    if weights.feature_model != current:
        raise OutdatedModelError(
            f"The tables are of {current}, and this version computes {weights.feature_model} with "
            "the weights that there are.",
            f"Trigger a run with Reprocess = {backbone_of(current)}, as often as images are left, "
            "and then switch to it (fruits_switch_model, make switch-model); or install the "
            "version and name the weights that made the tables. See docs/reprocess.md.",
            current=current,
            computed=weights.feature_model,
        )


def _kept(uri: str, path: Path) -> Path:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        download(uri, path)
    return path


def _overruled(settings: Settings, weights: Weights) -> str:
    """Return what the settings ask for that is not these *weights*, as far as that is cheap."""
    backbone = backbone_of(weights.feature_model)
    if settings.backbone != backbone:
        return f"the backbone {settings.backbone}"
    match settings.weights:
        case "published":
            published = published_weights(backbone, settings.lake)
            others = published is not None and published.feature_model != weights.feature_model
        case "seeded" | "imagenet" as wanted:
            others = (wanted == "seeded") != (weights.source == "seeded")
        case "auto":
            others = False
        case path:
            others = _sha256(Path(path)) != weights.sha256
    return f"other weights ({settings.weights})" if others else ""


def _sha256(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
