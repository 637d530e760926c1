"""PCA day after day: what is fitted, what is kept, and that the numbers are scikit-learn's."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from fruits_jobs.bases import CannotFit
from fruits_jobs.data_files import RowsDiffer
from fruits_jobs.objects import open_parquet, write_bytes
from pca import pca
from tests.spark_jobs.feature_days import DAYS, happen
from tests.spark_jobs.feature_tables import REGION, FeatureTable, parquet_bytes

NUMBERS = itertools.count()
TARGET = ("--variance-target", "0.9")


class Unsaved:
    """Stands in for a version as a Spark model, and writes nothing."""

    def write(self) -> Unsaved:
        return self

    def overwrite(self) -> Unsaved:
        return self

    def save(self, folder: str) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def without_plots_and_spark_models() -> Iterator[None]:
    """Leave out what takes most of a fit's time, and what nothing here looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pca.write_plots", lambda *_, **__: [])
        patch.setattr("fruits_jobs.pca_models.spark_model", lambda *_: Unsaved())
        yield


@pytest.fixture
def table(storage) -> FeatureTable:
    return FeatureTable("table")


def day(spark, table: FeatureTable, *options: str) -> dict[str, Any]:
    """Run the step on the table as it is and commit what it did."""
    result = pca(table.arguments(f"v{next(NUMBERS)}", *(options or TARGET)), spark)
    table.take(result)
    return result


def correlated(n: int, seed: int, d: int = 12, offset: float = 0.0) -> np.ndarray:
    """Return float32[n, d] of one distribution, whatever the seed, its mean moved by *offset*."""
    shape = np.random.default_rng(99).normal(size=(d, d)) * 0.6 ** np.arange(d)[:, None]
    rows = np.random.default_rng(seed).normal(size=(n, d)) @ shape
    return (rows + offset).astype(np.float32)


def arrays(storage, table: FeatureTable) -> dict[str, np.ndarray]:
    folder: Path = storage.folder / "fruits-lake" / table.name / "models" / table.version
    with np.load(folder / "pca.npz") as archive:
        return {name: archive[name] for name in archive.files}


@given(days=st.lists(DAYS, min_size=2, max_size=4), k=st.integers(1, 6))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_components_are_scikit_learns_after_any_sequence(spark, storage, days, k):
    """After each add, replacement or removal: eigenvalues within 1e-6, projections of the norm.

    A day begins with the cache that the days before it left.
    """
    table = FeatureTable(f"table-{next(NUMBERS)}")
    for what in days:
        happen(table, what)
        X = table.vectors if table.images else np.zeros((0, 1))
        if len(np.unique(X, axis=0)) < 2:
            continue

        day(spark, table, "--k", str(k), "--refit", "always")

        every = PCA(svd_solver="full").fit(X)
        eigenvalues = every.explained_variance_
        ours = arrays(storage, table)["eigenvalues"][: len(eigenvalues)]
        np.testing.assert_allclose(ours, eigenvalues, rtol=1e-6, atol=1e-12 * eigenvalues[0])
        assert_same_projections(table.projected(), every.transform(X), eigenvalues)


def assert_same_projections(found: np.ndarray, expected: np.ndarray, eigenvalues: np.ndarray):
    """Hold components [N, k] against all that there are, within 1e-6 of the norm of the data.

    Equal eigenvalues leave their directions open: such components are compared by the subspace
    that they span, and a run of them that k cuts through is left out.
    """
    norm, k = np.linalg.norm(expected), found.shape[1]
    gaps = np.diff(eigenvalues) > -1e-6 * eigenvalues[0]
    ends = [index + 1 for index, tied in enumerate([*gaps, False]) if not tied]
    for start, stop in zip([0, *ends], ends, strict=False):
        if stop <= k:
            a, b = found[:, start:stop], expected[:, start:stop]
            u, _, v = np.linalg.svd(b.T @ a)
            assert np.linalg.norm(a - b @ u @ v) <= 1e-6 * norm


@given(days=st.lists(DAYS, min_size=1, max_size=4))
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_image_has_its_components_day_after_day(spark, storage, days):
    """Under auto, kept or fitted: a projection for each image, and the target is met on all."""
    table = FeatureTable(f"table-{next(NUMBERS)}")
    table.add(np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32))
    day(spark, table)
    for what in days:
        happen(table, what)
        X = table.vectors if table.images else np.zeros((0, 1))
        if not len(X):
            continue

        result = day(spark, table)

        model = arrays(storage, table)
        expected = (X - model["mean"]) / model["scale"] @ model["basis"]
        norm = np.linalg.norm(X - model["mean"]) or 1
        assert np.linalg.norm(table.projected() - expected) <= 1e-6 * norm
        total = np.square(X - X.mean(0)).sum()
        if result["explained_variance_kept"] is not None:
            exact = made_with(model, expected)
            kept = 1 - np.square(X - exact).sum() / total
            assert result["explained_variance_kept"] == pytest.approx(kept, abs=1e-6)
            assert kept >= 0.9 - 1e-6


def made_with(model: dict[str, np.ndarray], components: np.ndarray) -> np.ndarray:
    return components @ model["basis"].T * model["scale"] + model["mean"]


def test_a_normal_day_projects_only_its_new_images(spark, storage, table):
    """The current version is kept, with figures; only new rows are computed and written."""
    table.add(correlated(200, 1))
    first = day(spark, table)
    table.add(correlated(15, 2))

    second = day(spark, table)

    assert (first["fitted"], second["fitted"]) == (True, False)
    assert first["reason"] == "these features have no version yet"
    assert "of the variance of all 215 images, the target is 90.00%" in second["reason"]
    assert second["model_version"] == first["model_version"]
    assert second["components"]["rows"] == 15
    assert second["statistics"] == {"rows_loaded": 200, "rows_computed": 15, "rejected": []}
    assert second["components_snapshot_id"] == 9
    assert len(table.components) == 215


def test_replaced_images_are_projected_again(spark, table):
    """A new content of an image is a new image to PCA; the rest of its file is not read twice."""
    table.add(correlated(200, 1))
    day(spark, table)
    chosen = np.arange(200) % 50 == 0
    table.replace(chosen, correlated(4, 3))

    result = day(spark, table)

    assert (result["fitted"], result["components"]["rows"]) == (False, 4)
    assert len(table.components) == 200


def test_images_that_vary_otherwise_are_fitted_anew(spark, storage, table):
    """When the version no longer keeps the target, every image gets components of a new one."""
    table.add(correlated(100, 1))
    first = day(spark, table)
    table.add(correlated(100, 2)[:, ::-1] * 5)

    second = day(spark, table)

    assert second["fitted"]
    assert second["components"]["rows"] == 200
    assert second["model_version"] != first["model_version"]
    assert second["reason"].startswith("the version keeps ")
    assert "would keep" in second["reason"]
    assert second["model"]["reason"] == second["reason"]


def test_a_mean_that_moved_counts_as_lost(spark, table):
    """New images far from the old ones, across the basis, are not kept by it."""
    table.add(correlated(100, 1))
    day(spark, table)
    table.add(correlated(100, 2, offset=30))

    assert day(spark, table)["fitted"]


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (TARGET, (*TARGET, "--refit", "always"), "refit is set to always"),
        (TARGET, (*TARGET, "--scaler", "standard"), "the scaler was none and is set to standard"),
        (("--k", "5"), ("--k", "6"), "the version has 5 components, and 6 are wanted"),
        (TARGET, (*TARGET, "--max-components", "1"), "and 1 are allowed"),
        (TARGET, ("--variance-target", "0.999"), "a new one of"),
        (TARGET, ("--variance-target", "0.5"), "components, and the target, now 50.00%, needs"),
        (("--k", "9"), TARGET, "the version has 9 components, and the target, now 90.00%, needs"),
    ],
)
def test_what_asks_for_a_new_version(spark, table, first, second, reason):
    """Settings that the current version was not made for are followed, and the reason says so."""
    table.add(correlated(100, 1))
    day(spark, table, *first)

    result = day(spark, table, *second)

    assert result["fitted"]
    assert reason in result["reason"]


def test_never_keeps_whatever_comes(spark, table):
    """The report still says what the version keeps."""
    table.add(correlated(100, 1))
    day(spark, table, *TARGET, "--refit", "never")
    table.add(correlated(100, 2)[:, ::-1] * 5)

    result = day(spark, table, *TARGET, "--refit", "never")

    assert (result["fitted"], result["reason"]) == (False, "refit is set to never")
    assert result["explained_variance_kept"] < 0.9
    assert len(table.components) == 200


@pytest.mark.parametrize("refit", ["auto", "always", "never"])
def test_a_version_is_kept_where_nothing_can_be_fitted(spark, table, refit):
    """A single image that is left has its components, whatever was asked for."""
    table.add(correlated(100, 1))
    first = day(spark, table)
    table.remove(keep=np.arange(100) == 0)

    result = day(spark, table, *TARGET, "--refit", refit)

    assert (result["fitted"], result["model_version"]) == (False, first["model_version"])
    assert result["reason"].startswith("nothing can be fitted")


def test_a_fixed_k_is_kept_while_a_new_basis_would_hardly_be_better(spark, table):
    """Without a target, the version may lose a hundredth of what a new one would keep."""
    table.add(correlated(200, 1))
    day(spark, table, "--k", "4")
    table.add(correlated(20, 2))

    result = day(spark, table, "--k", "4")

    assert not result["fitted"]
    assert "a new one would keep" in result["reason"]


def test_a_target_out_of_reach_does_not_fit_every_day(spark, table):
    """With a cap that is too low, the version is kept while it is about as good as can be."""
    options = ("--variance-target", "0.99", "--max-components", "2")
    table.add(correlated(200, 1))
    first = day(spark, table, *options)
    table.add(correlated(20, 2))

    second = day(spark, table, *options)

    assert "is not met" in first["warnings"][0]
    assert (first["fitted"], second["fitted"]) == (True, False)
    assert "is not met" in second["warnings"][0]


def another_basis(folder: Path) -> None:
    model = dict(np.load(folder / "pca.npz"))
    np.savez(folder / "pca.npz", **model | {"basis": -model["basis"]})


HARM = {
    "gone": lambda folder: (folder / "pca.npz").unlink(),
    "damaged": lambda folder: (folder / "model.json").write_text("{"),
    "of another version": another_basis,
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_a_model_that_cannot_be_used_is_made_again(spark, storage, table, capsys, harm):
    """Nothing is projected with a basis that may be another: a new one, loudly, even at never."""
    table.add(correlated(50, 1))
    day(spark, table)
    models = storage.folder / "fruits-lake" / table.name / "models"
    harm(models / table.version)
    time.sleep(0.3)  # the S3 keeps its folders' caches for a moment

    result = day(spark, table, *TARGET, "--refit", "never")

    assert (result["fitted"], result["reason"]) == (True, "the version cannot be read")
    assert "cannot be read" in result["warnings"][0]
    assert result["model"]["warnings"] == result["warnings"]
    assert "WARNING" in capsys.readouterr().out


def test_a_list_of_other_length_than_said_fails_the_step(spark, table):
    """Images would be left without components, and nobody would know."""
    table.add(correlated(200, 1))
    day(spark, table)
    table.add(correlated(9, 2))
    arguments = table.arguments("short", *TARGET)
    missing = f"{arguments.work}missing.parquet"
    with open_parquet(missing, REGION) as file:
        write_bytes(missing, parquet_bytes(file.read().slice(1)), REGION)

    with pytest.raises(RowsDiffer, match="listed with 9 rows, but has 8"):
        pca(arguments, spark)


def test_features_of_another_network_have_no_version(spark, table):
    """Another feature model starts with a version of its own; another length is never projected."""
    table.add(correlated(50, 1))
    day(spark, table)
    table.files.clear()
    table.add(correlated(50, 2, d=9))

    result = day(spark, table, *TARGET, "--refit", "never")

    assert result["fitted"]
    assert result["reason"] == "the features have another length"


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (correlated(1, 1), "at least 2 images, the features table has 1: add images"),
        (np.repeat(correlated(1, 1), 40, axis=0), "all 40 images have the same features"),
    ],
)
def test_what_cannot_be_fitted_says_so_and_what_is_there_is_kept(spark, table, X, message):
    """A first fit of one image, or of copies, fails with a way out; later the version is kept."""
    table.add(X)
    with pytest.raises(CannotFit, match=message):
        day(spark, table)
    table.add(correlated(50, 3))
    day(spark, table)
    table.files.clear()
    table.add(X)

    result = day(spark, table)

    assert not result["fitted"]
    assert message in result["reason"]
    assert result["explained_variance_kept"] is None
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("scaler", ["none", "standard", "minmax"])
def test_constant_columns_do_no_harm(spark, storage, table, scaler):
    """A feature that is the same in every image has no part in any component."""
    X = correlated(60, 1)
    X[:, 3] = 0.25
    X[:, 7] = 0
    table.add(X)

    day(spark, table, "--k", "4", "--scaler", scaler)

    model = arrays(storage, table)
    assert np.isfinite(table.projected()).all()
    assert np.abs(model["basis"][[3, 7]]).max() < 1e-12
    if scaler == "standard":
        scaled = StandardScaler().fit_transform(X.astype(np.float64))
        expected = PCA(4, svd_solver="full").fit(scaled).explained_variance_
        np.testing.assert_allclose(model["eigenvalues"][:4], expected, rtol=1e-6)


@pytest.mark.parametrize(("rows", "k"), [(3, 2), (40, 2)])
def test_k_is_cut_to_the_rank_loudly(spark, table, rows, k):
    """Fewer rows than k, or copies of a few: no component that is only rounding, and a warning."""
    table.add(np.tile(correlated(3, 1), (rows // 3 + 1, 1))[:rows])

    result = day(spark, table, "--k", "10")

    assert result["model"]["k"] == k
    assert result["warnings"] == [f"k was cut from 10 to {k}, the rank of the features"]
