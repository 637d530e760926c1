"""Nearest neighbours before and after a reduction: held out so that no neighbouring frame helps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from fruits_jobs.bases import Wish, fit
from fruits_jobs.neighbours import BLOCKS, Series, accuracy
from fruits_jobs.qualities import quality
from fruits_jobs.schemas import float_lists
from fruits_jobs.statistics import Statistics


def turning(labels: int, frames: int) -> tuple[np.ndarray, Series]:
    """Return vectors of fruits that turn, float32[N, 8], and their series."""
    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, frames, endpoint=False)
    centres = random.normal(size=(labels, 1, 8))
    circle = 0.3 * np.stack([np.cos(angles), np.sin(angles), *(angles * 0,) * 6], axis=1)
    X = (centres + circle + 0.01 * random.normal(size=(labels, frames, 8))).reshape(-1, 8)
    names = [f"fruit {i}" for i in range(labels) for _ in range(frames)]
    keys = [f"fruit {i}/{frame}_100.jpg" for i in range(labels) for frame in range(frames)]
    return X.astype(np.float32), Series.of(names, keys)


@given(frames=st.integers(8, 60), labels=st.integers(2, 4))
def test_no_image_is_looked_up_near_its_own_frames(frames, labels):
    """Each image is looked up once, and no frame within an eighth of its series is among."""
    _, series = turning(labels, frames)
    found = []
    for block in range(BLOCKS):
        looked_up, among = series.fold(block)
        found += looked_up.tolist()
        assert len(among)
        for label in range(labels):
            ours = series.place[looked_up][series.label[looked_up] == label]
            theirs = series.place[among][series.label[among] == label]
            apart = np.abs(ours[:, None] - theirs[None, :])
            assert np.minimum(apart, 1 - apart).min() >= 1 / 8 - 1e-9

    assert sorted(found) == list(range(frames * labels))


def test_numbers_in_keys_are_ordered_as_numbers():
    """Frame 10 comes after frame 9, or blocks would be no blocks."""
    keys = [f"a/{i}_100.jpg" for i in range(12)]

    series = Series.of(["a"] * 12, keys)

    assert (np.diff(series.place) > 0).all()


def test_any_key_has_a_place_in_the_series():
    """Characters that only look like digits, and digits of other scripts, stop no step."""
    keys = ["a/²_1.jpg", "a/1²3.jpg", "a/٣.jpg", "a/.jpg", "a/½.jpg", "a/10", "a/9", "10"]

    series = Series.of(["a"] * 8, keys)

    assert sorted(series.place) == [i / 8 for i in range(8)]


def test_labels_of_few_images_are_left_out():
    """A quarter of three images is no block; the others are still looked up."""
    series = Series.of(["a"] * 8 + ["b"] * 8 + ["c"] * 3, [f"{i:03d}" for i in range(19)])

    assert series.fits
    assert (series.label[16:] == -1).all()
    assert not Series.of(["a"] * 20, [str(i) for i in range(20)]).fits


def test_votes_are_scikit_learns():
    """The accuracy is that of scikit-learn's classifier on the same folds."""
    X, series = turning(5, 40)
    X = X + np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    right = 0
    for block in range(BLOCKS):
        looked_up, among = series.fold(block)
        model = KNeighborsClassifier(1).fit(X[among], series.label[among])
        nearest = model.kneighbors(X[looked_up], 5, return_distance=False)
        for row, votes in zip(looked_up, series.label[among][nearest], strict=True):
            most = max(votes.tolist(), key=lambda v: (votes == v).sum())
            right += most == series.label[row]

    assert accuracy(X, series) == pytest.approx(right / len(X))


def test_quality_says_what_a_reduction_cost():
    """A reduction to what tells labels apart costs nothing; to one direction of noise, much."""
    X, _ = turning(6, 24)
    names = [f"fruit {i}/{frame}_100.jpg" for i in range(6) for frame in range(24)]
    labels = [name.partition("/")[0] for name in names]
    sample = pa.table({"image_key": names, "label": labels, "features": float_lists(X)})
    statistics = Statistics.of(X)

    good = quality(sample, fit(statistics, Wish(k=7)))
    poor = quality(sample, fit(statistics, Wish(k=1)))

    assert good["label_accuracy_before"] == good["label_accuracy_after"] == 1.0
    assert poor["label_accuracy_after"] < 1.0
    assert (good["sampled_images"], good["sampled_labels"]) == (144, 6)
    assert good["reconstruction_error"] < poor["reconstruction_error"]
