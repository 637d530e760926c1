"""The PCA model in use: its figures, its scree plot, and a sample of images in its plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fruits.charts import ScatterChart, Scree, scatter_chart, scree
from fruits.objects import read_json
from fruits.scatters import read_scatter


@dataclass(frozen=True)
class PcaModel:
    """What model.json says, and its two charts; a chart is None where there is nothing to draw."""

    description: dict[str, Any]
    scree: Scree | None
    scatter: ScatterChart | None


def read_model(lake: str, model_version: str) -> PcaModel:
    """Return the model of that version: two objects of bounded size."""
    folder = f"{lake}/models/pca/{model_version}"
    description = read_json(f"{folder}/model.json")
    ratios = description.get("explained_variance_ratio", [])
    return PcaModel(
        description,
        scree(ratios, description.get("variance_target")),
        scatter_chart(read_scatter(folder)),
    )
