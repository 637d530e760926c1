"""What a reduction keeps and what it costs: the figures that go into model.json with each fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fruits_jobs.bases import Basis
from fruits_jobs.neighbours import NEIGHBOURS, Floats, Series, accuracy
from fruits_jobs.objects import open_parquet
from fruits_jobs.shares import matrix_of

SAMPLE = 5000  # images: looking each up among the others takes about two seconds
GROUPS = 8
COLUMNS = ["image_key", "label", "features"]


def quality(files: list[tuple[str, int]], basis: Basis, region: str) -> dict[str, Any]:
    """Return figures of *basis* on a sample of at most 5,000 images of (uri, rows) *files*.

    The accuracies are those of 5 nearest neighbours, held out by blocks; None if fewer than two
    labels have 8 images. The reconstruction error is the mean squared one of all images that were
    fitted, in units of the scaled features.
    """
    sample = sample_of(files, region)
    X = matrix_of(sample)
    series = Series.of(sample["label"].to_pylist(), sample["image_key"].to_pylist())
    scaled: Floats = ((X - basis.mean) / basis.scale).astype(np.float32)
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


def sample_of(files: list[tuple[str, int]], region: str) -> pa.Table:
    """Return the same at most 5,000 rows of the same files: of up to 8 random row groups.

    Files are sorted by label, so a row group holds whole series, of fewer labels than the table.
    """
    random = np.random.default_rng(0)
    every = sum(rows for _, rows in files) <= SAMPLE
    chosen = files if every else [files[i] for i in random.permutation(len(files))[:GROUPS]]
    tables = []
    for uri, _ in chosen:
        with open_parquet(uri, region) as file:
            groups = list(range(file.metadata.num_row_groups))
            if not every:
                groups = sorted(random.permutation(groups)[: -(-GROUPS // len(chosen))].tolist())
            tables.append(file.read_row_groups(groups, columns=COLUMNS))
    found = pa.concat_tables(tables)
    if found.num_rows <= SAMPLE:
        return found
    return found.take(np.sort(random.permutation(found.num_rows)[:SAMPLE]))
