"""What a reduction keeps and what it costs: the figures that go into model.json with each fit."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fruits_jobs.bases import Basis
from fruits_jobs.neighbours import NEIGHBOURS, Floats, Series, accuracy
from fruits_jobs.shares import matrix_of


def quality(sample: pa.Table, basis: Basis) -> dict[str, Any]:
    """Return figures of *basis* on a *sample* (image_key, label, features) of the fitted images.

    The accuracies are those of 5 nearest neighbours, held out by blocks; None if fewer than two
    labels have 8 images in the sample. The reconstruction error is the mean squared distance of all
    fitted images from what their components stand for (divisor N - 1), of the scaled features.
    """
    X = matrix_of(sample)
    series = Series.of(sample["label"].to_pylist(), sample["image_key"].to_pylist())
    scaled: Floats = ((X - basis.mean) / basis.scale).astype("float32")
    before, after = (
        (accuracy(scaled, series), accuracy(basis.components(X), series))
        if series.fits
        else (None, None)
    )
    return {
        "reconstruction_error": float(basis.eigenvalues[basis.k :].sum()),
        "neighbours": NEIGHBOURS,
        "sampled_images": sample.num_rows,
        "sampled_labels": len(set(series.label.tolist()) - {-1}),
        "label_accuracy_before": before,
        "label_accuracy_after": after,
    }
