"""The sample of images that is drawn: bounded, of every part of the table, with few labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from fruits.charts import scatter_chart
from fruits.commits import commit_features
from fruits.component_commits import commit_components
from fruits.scatters import (
    LABELS,
    OTHERS,
    POINTS,
    ROW_GROUPS_READ,
    Scatter,
    read_scatter,
    sample_components,
    write_scatter,
)
from local_cloud.s3 import ObjectStorage
from tests.fruits.lake_support import (
    featurized,
    listed_image,
    manifest_uri,
    published,
    put,
    reduced,
    sensed,
)

FOLDER = "s3://fruits-lake/models/pca/v"


def commit(catalog: Catalog, labels: dict[str, int], k: int = 2) -> str:
    """Commit features and components of so many images of each label; return the version."""
    for label, count in labels.items():
        for number in range(count):
            put(f"{label}/{number}.jpg")
    sensed(catalog, "b")
    return commit_sensed(catalog, k)


def commit_sensed(catalog: Catalog, k: int = 2) -> str:
    """Commit features and components of the manifest as it is; return the version."""
    commit_features(catalog, manifest_uri("b"), featurized("b"))
    return commit_components(catalog, reduced(catalog, "b", k=k)).model_version


def test_every_label_has_its_points(catalog: Catalog) -> None:
    """A small table is drawn whole: each image is a point of its label."""
    version = commit(catalog, {"Kiwi": 3, "Apple": 2})

    scatter = sample_components(catalog, version)

    assert scatter is not None
    assert (scatter.model_version, scatter.n_images) == (version, 5)
    assert scatter.labels == ("Apple", "Kiwi")
    assert sorted(index for _, _, index in scatter.points) == [0, 0, 1, 1, 1]


def test_rare_labels_share_one_name(catalog: Catalog) -> None:
    """More labels than can be told apart: the frequent keep theirs, the others are one group."""
    version = commit(catalog, {f"label {number}": 1 + (number < 3) for number in range(12)})

    scatter = sample_components(catalog, version)

    assert scatter is not None
    assert len(scatter.labels) == LABELS
    assert scatter.labels[-1] == OTHERS
    assert {"label 0", "label 1", "label 2"} <= set(scatter.labels)
    assert len(scatter.points) == 15


def test_one_component_is_a_line(catalog: Catalog) -> None:
    """With k = 1 there is no second component: it is drawn as 0."""
    scatter = sample_components(catalog, commit(catalog, {"Kiwi": 3}, k=1))

    assert scatter is not None
    assert {y for _, y, _ in scatter.points} == {0.0}
    assert scatter_chart(scatter) is not None


def test_what_is_read_and_drawn_is_bounded(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many row groups a few are read, of many rows a bounded number of points is kept."""
    many = [f"Apple/{n}.jpg" for n in range(400)] + [f"Kiwi/{n}.jpg" for n in range(2000)]
    published("b", tmp_path, added=[listed_image(key) for key in sorted(many)])
    version = commit_sensed(catalog)

    scatter = sample_components(catalog, version)

    assert scatter is not None
    assert scatter.n_images == 2400
    # The support makes two files with row groups of 50.
    assert len(scatter.points) == 2 * ROW_GROUPS_READ * 50 < POINTS
    assert scatter.labels == ("Apple", "Kiwi")
    monkeypatch.setattr("fruits.scatters.POINTS", 100)
    fewer = sample_components(catalog, version)
    assert fewer is not None
    assert len(fewer.points) == 100


def test_a_version_without_components_has_no_sample(catalog: Catalog) -> None:
    """There is nothing to draw of a version that is not in the table."""
    assert sample_components(catalog, "nothing") is None


def test_what_was_written_is_read(storage: ObjectStorage) -> None:
    """The page reads what the report left beside the model; before that, there is none."""
    before, scatter = read_scatter(FOLDER), Scatter("v", 2, ("a", "b"), ((1.0, 2.0, 0),))

    write_scatter(FOLDER, scatter)

    assert before is None
    assert read_scatter(FOLDER) == scatter
