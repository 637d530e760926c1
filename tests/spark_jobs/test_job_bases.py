"""The numbers of PCA: exact statistics, k, scaling and signs, held against scikit-learn."""

from __future__ import annotations

import io
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from fruits_jobs.bases import CannotFit, Wish, choose_k, fit, scales
from fruits_jobs.pca_models import npz, spark_offset
from fruits_jobs.statistics import NotFinite, Statistics

MATRICES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=30),
    elements=st.floats(-100, 100, width=32),
)
SCALERS = {"none": None, "standard": StandardScaler(), "minmax": MinMaxScaler()}


def features(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Return correlated non-negative float32[n, d], as pooled ReLU features are."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n, d)) @ random.normal(size=(d, d)) / d**0.5
    return np.maximum(mixed + 0.3, 0).astype(np.float32)


@pytest.mark.parametrize("scaler", SCALERS)
def test_components_equal_scikit_learns(scaler):
    """Basis, eigenvalues, shares and components are those of PCA in float64, signs included."""
    X = features(300, 40)
    scaled = X.astype(np.float64)
    if SCALERS[scaler]:
        scaled = SCALERS[scaler].fit_transform(scaled)
    reference = PCA(n_components=10, svd_solver="full").fit(scaled)

    basis = fit(Statistics.of(X), Wish(k=10), scaler)

    expected = reference.components_.T
    np.testing.assert_allclose(basis.basis, expected, atol=1e-9)
    np.testing.assert_allclose(basis.eigenvalues[:10], reference.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(
        basis.explained_variance_ratio, reference.explained_variance_ratio_, rtol=1e-9
    )
    error = np.linalg.norm(basis.components(X) - (scaled - scaled.mean(0)) @ expected)
    assert error <= 1e-5 * np.linalg.norm(scaled)


def test_the_largest_coefficient_of_a_component_is_positive():
    """A sign never flips by itself, so that versions can be compared."""
    basis = fit(Statistics.of(features(200, 12)), Wish(k=5))

    largest = np.abs(basis.basis).argmax(0)
    assert (basis.basis[largest, range(5)] > 0).all()


@given(X=MATRICES, cut=st.integers(1, 29))
def test_statistics_of_parts_add_up_to_those_of_the_whole(X, cut):
    """However files are shared out, the sums are the same."""
    parts = [part for part in np.split(X, [min(cut, len(X))]) if len(part)]

    summed, whole = reduce(add, map(Statistics.of, parts)), Statistics.of(X)

    assert summed.count == whole.count
    np.testing.assert_allclose(summed.scatter, whole.scatter, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(summed.low, whole.low)
    np.testing.assert_array_equal(summed.high, whole.high)


@given(X=MATRICES)
def test_covariance_is_numpys(X):
    """The one-pass covariance is the textbook's."""
    expected = np.cov(X.astype(np.float64), rowvar=False)

    np.testing.assert_allclose(Statistics.of(X).covariance(), np.atleast_2d(expected), atol=1e-8)


@given(X=MATRICES, scaler=st.sampled_from(["none", "standard", "minmax"]))
def test_scales_are_positive_and_finite(X, scaler):
    """A constant feature, black borders for example, makes no infinity."""
    scale = scales(Statistics.of(X), scaler)

    assert np.isfinite(scale).all()
    assert (scale > 0).all()


@given(
    values=st.lists(st.floats(0, 1e6), min_size=1, max_size=60).filter(lambda v: sum(v) > 1e-3),
    target=st.floats(0.01, 1),
    cap=st.integers(1, 80),
)
def test_k_is_the_smallest_that_meets_the_target(values, target, cap):
    """One component fewer would not meet it; an unmet target is never silent."""
    eigenvalues = np.sort(np.array(values))[::-1]
    kept = np.cumsum(eigenvalues) / eigenvalues.sum()

    k, met, warnings = choose_k(eigenvalues, len(values), Wish(None, target, cap))

    assert 1 <= k <= min(cap, len(values))
    assert met == (not warnings)
    assert met == (kept[k - 1] >= target - 1e-12)
    assert k == 1 or kept[k - 2] < target
    assert met or k == min(cap, len(values))


def test_a_target_that_is_reached_exactly_is_met():
    """Ten equal shares reach 0.9 with nine: rounding must not ask for the tenth."""
    assert choose_k(np.full(10, 0.1), 10, Wish(variance_target=0.9))[:2] == (9, True)


def test_an_unmet_target_says_what_would_be_needed():
    """A cap that is too low gives its k and a warning with the figures, not k = 1."""
    k, met, warnings = choose_k(np.ones(100), 100, Wish(variance_target=0.95, max_components=20))

    assert (k, met) == (20, False)
    assert "20 components keep 0.2000; 95 would be needed, the cap is 20" in warnings[0]


def test_a_k_beyond_the_rank_is_cut_with_a_warning():
    """Five images cannot have ten components; a small first batch still gets its model."""
    basis = fit(Statistics.of(features(5, 30)), Wish(k=10))

    assert basis.k == 4
    assert basis.warnings == ("k was cut from 10 to 4, the rank of the features",)


def test_one_image_has_no_pca():
    """The message says how many there are and what to do."""
    with pytest.raises(CannotFit, match="at least 2 images, the features table has 1"):
        fit(Statistics.of(features(1, 8)), Wish(k=1))


def test_identical_images_have_no_pca():
    """Without variance every share would be 0/0."""
    with pytest.raises(CannotFit, match="all 4 images have the same features"):
        fit(Statistics.of(np.repeat(features(1, 20, 3), 4, axis=0)), Wish(variance_target=0.95))


def test_nan_is_an_error_that_tells_the_row():
    """A NaN would silently spoil the basis of all images."""
    X = features(6, 4)
    X[3, 2] = np.nan

    with pytest.raises(NotFinite) as caught:
        Statistics.of(X)
    assert caught.value.row == 3


def test_npz_and_offset_tell_the_same_components():
    """What NumPy reads from pca.npz, and Spark's matrix less the offset, are the components."""
    X = features(50, 9)
    basis = fit(Statistics.of(X), Wish(k=4), "standard")
    read = np.load(io.BytesIO(npz(basis)))

    by_hand = ((X - read["mean"]) / read["scale"]) @ read["basis"]
    as_spark = X @ (basis.basis / basis.scale[:, None]) - spark_offset(basis)

    np.testing.assert_allclose(by_hand, basis.components(X), atol=1e-6)
    np.testing.assert_allclose(as_spark, basis.components(X), atol=1e-6)
    assert read["eigenvalues"].shape == (9,)
