"""What a step says it did: result.json, which each attempt writes last into its work folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fruits.lake import LakeFile
from fruits.objects import read_json


@dataclass(frozen=True)
class FeaturizeResult:
    """The files that a featurize attempt wrote, why images were quarantined, how long it took.

    *rewritten* are the copies that it made of committed files without the rows that are replaced,
    by the URI of the file that each replaces (None: no row is left).
    """

    batch: str
    feature_model: str
    features: tuple[LakeFile, ...]
    quarantine: tuple[LakeFile, ...]
    changed: tuple[LakeFile, ...]
    reasons: dict[str, int]
    seconds: float | None = None
    rewritten: dict[str, LakeFile | None] = field(default_factory=dict)


@dataclass(frozen=True)
class PcaResult:
    """The files that one attempt at PCA wrote, the features that it read, and what it did.

    *fitted*: the model version is new, and has components of every image; else it was kept, and the
    files have those of the images that lacked them as of *components_snapshot_id*. *reason* says
    why, *quality* what the reduction cost when the version was fitted. *explained_variance_kept* is
    that of all images, None if they have no variance.
    """

    batch: str
    model_version: str
    feature_model: str
    fitted: bool
    reason: str
    features_snapshot_id: int
    components_snapshot_id: int | None
    k: int
    explained_variance_kept: float | None
    warnings: tuple[str, ...]
    quality: dict[str, Any]
    components: tuple[LakeFile, ...]


def read_featurize_result(result_uri: str) -> FeaturizeResult:
    """Return what a featurize attempt's result.json says; MissingObjectError if it did not end."""
    content = read_json(result_uri)
    return FeaturizeResult(
        batch=content["batch"],
        feature_model=content["feature_model"],
        features=_files(content["features"]),
        quarantine=_files(content["quarantine"]),
        changed=_files(content["changed"]),
        reasons=content["quarantine"].get("reasons", {}),
        seconds=content.get("seconds", {}).get("total"),
        rewritten={made["old"]: _copy(made) for made in content.get("rewritten", [])},
    )


def read_pca_result(result_uri: str) -> PcaResult:
    """Return what a PCA attempt's result.json says; MissingObjectError if it did not end."""
    content = read_json(result_uri)
    model = content["model"]
    return PcaResult(
        batch=content["batch"],
        model_version=content["model_version"],
        feature_model=model["feature_model"],
        fitted=content["fitted"],
        reason=content["reason"],
        features_snapshot_id=content["features_snapshot_id"],
        components_snapshot_id=content["components_snapshot_id"],
        k=model["k"],
        explained_variance_kept=content["explained_variance_kept"],
        warnings=tuple(content["warnings"]),
        quality=model.get("quality", {}),
        components=_files(content["components"]),
    )


def _copy(made: dict[str, Any]) -> LakeFile | None:
    return LakeFile(made["uri"], made["rows"], made["bytes"]) if made["uri"] else None


def _files(written: dict[str, Any]) -> tuple[LakeFile, ...]:
    return tuple(LakeFile(file["uri"], file["rows"], file["bytes"]) for file in written["files"])
