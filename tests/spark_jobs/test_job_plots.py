"""Plots of a fitted version: there, legible, and never a reason to lose a day's work."""

from __future__ import annotations

import io
import warnings
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from fruits_jobs.bases import Basis, Wish, fit
from fruits_jobs.objects import read_bytes
from fruits_jobs.plots import (
    MOST_LABELS,
    colours,
    components_figure,
    explained_variance_figure,
    spread_out,
    write_plots,
)
from fruits_jobs.statistics import Statistics

FOLDER = "s3://fruits-lake/models/pca/v/"
REGION = "eu-west-3"


def clouds(labels: int, images: int = 12, d: int = 8) -> tuple[list[str], np.ndarray]:
    """Return labels, and vectors float32[N, d] around a middle of each."""
    random = np.random.default_rng(labels)
    middles = np.repeat(random.normal(size=(labels, d)) * 3, images, axis=0)
    names = [f"fruit {i}" for i in range(labels) for _ in range(images)]
    return names, (middles + random.normal(size=middles.shape)).astype(np.float32)


def fitted(X: np.ndarray, k: int = 4) -> Basis:
    return fit(Statistics.of(X), Wish(k=k))


def test_png_and_svg_are_written_and_are_the_same_each_time(storage):
    """Both figures in both forms, whole, named as model.json lists them."""
    labels, X = clouds(5)
    basis = fitted(X)

    def draw() -> dict[str, bytes]:
        components = basis.components(X)
        names = write_plots(basis, 0.9, labels, components, folder=FOLDER, region=REGION)
        return {name: read_bytes(f"{FOLDER}{name}", REGION) for name in names}

    drawn, again = draw(), draw()

    assert set(drawn) == {
        f"{name}.{kind}" for name in ("explained_variance", "components") for kind in ("png", "svg")
    }
    assert drawn == again
    for name, content in drawn.items():
        if name.endswith("png"):
            assert min(Image.open(io.BytesIO(content)).size) > 600
        else:
            assert ET.fromstring(content).tag.endswith("svg")


def test_every_label_has_a_number_and_a_line_in_the_key():
    """With 130 labels no two numbers cover each other, and no two neighbours look alike."""
    labels, X = clouds(130)
    basis = fitted(X)

    figure = components_figure(labels, basis.components(X), basis)
    figure.draw_without_rendering()

    numbers = figure.axes[0].texts
    assert [text.get_text() for text in numbers] == [str(i) for i in range(1, 131)]
    places = np.array([text.get_window_extent().get_points().mean(0) for text in numbers])
    apart = np.linalg.norm(places[:, None] - places[None, :], axis=2) + np.eye(130) * 1e9
    assert apart.min() > 0.12 * figure.dpi
    key = [text for text in figure.texts if text.get_text().startswith("fruit")]
    assert {text.get_text() for text in key} == set(labels)
    boxes = [text.get_window_extent() for text in key]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert max(box.x1 for box in boxes) < figure.bbox.x1
    shades = np.array(colours(130))
    assert np.linalg.norm(np.diff(shades, axis=0), axis=1).min() > 0.2


def test_rare_labels_are_grey_when_there_are_too_many():
    """What has no number is said to be there."""
    labels, X = clouds(MOST_LABELS + 8)
    basis = fitted(X)

    figure = components_figure(labels, basis.components(X), basis)

    assert len(figure.axes[0].texts) == MOST_LABELS
    assert "96 of rarer labels in grey" in figure.axes[0].get_title()


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("label", ["", "$x_1$ \\frac", "_hidden", "two\nlines", "a" * 300, "林檎"])
def test_any_label_and_any_k_can_be_drawn(storage, label, k):
    """Labels are folder names that somebody chose: no formula, no markup, no limit."""
    names, X = clouds(2)
    basis = fitted(X, k)
    labels = [label if name == "fruit 0" else name for name in names]

    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        names = write_plots(basis, None, labels, basis.components(X), folder=FOLDER, region=REGION)

    assert len(names) == 4


@pytest.mark.parametrize("images", [3, 40])
def test_few_images_and_copies_of_them_can_be_drawn(storage, images):
    """Whatever can be fitted: fewer images than components, copies, features that never vary."""
    X = np.tile(clouds(1, 3)[1], (14, 1))[:images]
    X[:, 2] = 0.25
    basis = fitted(X, 10)
    labels = [str(number % 3) for number in range(images)]

    names = write_plots(basis, 0.9, labels, basis.components(X), folder=FOLDER, region=REGION)

    assert basis.k == 2
    assert len(names) == 4


def test_the_curve_is_of_the_total_variance():
    """The curve ends at 100% of all there is, not of what the components keep."""
    _, X = clouds(5)
    basis = fitted(X, k=2)

    figure = explained_variance_figure(basis, 0.95)

    shares = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(shares, np.cumsum(basis.eigenvalues) / basis.eigenvalues.sum())
    assert figure.axes[0].get_title().startswith("2 components keep")
    assert shares[1] == pytest.approx(basis.explained_variance_ratio.sum())


def test_places_part_even_in_one_spot():
    """Labels with the same middle are told apart too."""
    places = spread_out(np.zeros((6, 2)), apart=20.0)

    distances = np.linalg.norm(places[:, None] - places[None, :], axis=2) + np.eye(6) * 1e9
    assert distances.min() > 15
