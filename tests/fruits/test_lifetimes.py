"""What goes with age and what stays: decided by an object's key alone."""

from __future__ import annotations

import pytest

from fruits.lifetimes import goes_with_age


@pytest.mark.parametrize(
    "key",
    [
        "manifests/b/added.parquet",
        "attempts/b/pca-1.1/missing.parquet",
        "logs/j-1/steps/s-1/stderr.gz",
        "reports/b/report.html",
        "reports/b/images/worst.png",
        "models/pca/b-1.1/scatter.json",
        "models/pca/b-1.1/components.png",
    ],
)
def test_what_names_or_shows_images_goes(key: str) -> None:
    """It serves one run, or is a picture of single images."""
    assert goes_with_age(key)


@pytest.mark.parametrize(
    "key",
    [
        *("jobs/1/pca.py", "bootstrap/1/limit_lifetime.sh", "wheelhouses/1/numpy.whl"),
        *("weights/1/w.h5", "weights/MobileNetV2.json", "networks/m.tflite", "code/newest.json"),
        *("leases/b.1.json", "ledger/2026-11/b.1.json", "erasures/1.json", "security/x.zip"),
        *("ledger/last_look.json", "ledger/findings/20261121T030000Z-j-1.json"),
        *("reports/b/report.json", "models/pca/b-1.1/pca.npz", "models/pca/b-1.1/model.json"),
        *("models/pca/b-1.1/PCAModel/data/part-0.parquet", "exports/b1/features.csv"),
        *("models/pca/b-1.1/explained_variance.svg", "tables/features/data/b/x.parquet"),
        *("somebody/elses.csv", "models_$folder$", "logs", ""),
    ],
)
def test_what_runs_and_sums_stays(key: str) -> None:
    """Jobs, money, matrices of all images together, receipts, and what is not ours."""
    assert not goes_with_age(key)
