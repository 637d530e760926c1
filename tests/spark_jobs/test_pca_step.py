"""The whole pca step on a local Spark: model in three forms, components of every image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA

from fruits_jobs.arguments import pca_parser
from fruits_jobs.bases import CannotFit
from fruits_jobs.schemas import COMPONENTS
from pca import pca
from tests.spark_jobs.feature_tables import feature_rows

LAKE = "s3://fruits-lake"
TABLE = "tables/features/data/feature_model=m/b"


@pytest.fixture
def commit(storage) -> Callable[..., np.ndarray]:
    """Return a function that commits features, float32[N, D], in files of some row groups."""

    def write(X: np.ndarray, files: int = 3, claim: int = 0) -> np.ndarray:
        lake = storage.folder / "fruits-lake"
        (lake / TABLE).mkdir(parents=True)
        (lake / "attempts/b/pca-1").mkdir(parents=True)
        listed, first = [], 0
        for index, part in enumerate(np.array_split(X, files)):
            path = lake / TABLE / f"{index}.parquet"
            # The first image of a file is not of the first label.
            keys = [f"run/{9 - i % 5}/{first + i:04d}.jpg" for i in range(len(part))]
            rows = feature_rows([(key, "etag") for key in keys], part)
            pq.write_table(rows, path, row_group_size=40)
            first += len(part)
            uri = f"{LAKE}/{TABLE}/{index}.parquet"
            listed.append({"uri": uri, "rows": len(part), "bytes": path.stat().st_size})
        listed[0]["rows"] += claim
        content = {"snapshot_id": 7, "feature_model": "m", "files": listed}
        (lake / "attempts/b/pca-1/features.json").write_text(json.dumps(content))
        return X

    return write


def arguments(*more: str):
    words = {
        "features": f"{LAKE}/attempts/b/pca-1/features.json",
        "components": f"{LAKE}/tables/components/data/b/1/",
        "model": f"{LAKE}/models/pca/b-1/",
        "model-version": "b-1",
        "work": f"{LAKE}/attempts/b/pca-1/",
        "statistics": f"{LAKE}/statistics/",
        "batch": "b",
        "region": "eu-west-3",
    }
    line = [word for name, value in words.items() for word in (f"--{name}", value)]
    return pca_parser().parse_args([*line, *more])


def vectors(n: int = 300, d: int = 30) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.maximum(random.normal(size=(n, d)) @ random.normal(size=(d, d)), 0).astype("f4")


def components(folder: Path, result: dict[str, Any]) -> pa.Table:
    files = result["components"]["files"]
    paths = [folder / file["uri"].removeprefix("s3://") for file in files]
    return pa.concat_tables([pq.ParquetFile(path).read() for path in paths])


def test_components_are_scikit_learns_for_every_image(spark, storage, commit):
    """Each image's row has its own components, equal within 1e-5 of the data's norm."""
    X = commit(vectors()).astype(np.float64)

    result = pca(arguments("--k", "6"), spark)

    table = components(storage.folder, result)
    assert table.schema.equals(COMPONENTS)
    order = [int(key[-8:-4]) for key in table["image_key"].to_pylist()]
    assert sorted(order) == list(range(300))
    # Keys restart their labels per file, so numbers tell the rows of X.
    found = np.array(table["components"].to_pylist())[np.argsort(order)]
    expected = PCA(6, svd_solver="full").fit_transform(X)
    expected *= np.sign((found * expected).sum(0))
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(X)


def test_the_model_is_readable_in_its_three_forms(spark, storage, commit):
    """Spark ML, NumPy and JSON describe one and the same basis."""
    from pyspark.ml.feature import PCAModel
    from pyspark.ml.linalg import Vectors

    X = commit(vectors())

    result = pca(arguments("--variance-target", "0.9", "--scaler", "standard"), spark)

    folder = storage.folder / "fruits-lake/models/pca/b-1"
    described = json.loads((folder / "model.json").read_text())
    arrays = np.load(folder / "pca.npz")
    loaded = PCAModel.load(f"{LAKE}/models/pca/b-1/PCAModel")
    row = spark.createDataFrame([(Vectors.dense(X[0]),)], ["features"])
    by_spark = loaded.transform(row).first()["components"].toArray() - described["spark_offset"]
    by_numpy = ((X[0] - arrays["mean"]) / arrays["scale"]) @ arrays["basis"]
    np.testing.assert_allclose(by_spark, by_numpy, atol=1e-9)
    assert described == result["model"]
    assert (described["n_images"], described["n_features"]) == (300, 30)
    assert described["explained_variance_kept"] >= 0.9
    assert described["variance_target_met"] is True
    assert (described["features_snapshot_id"], described["feature_model"]) == (7, "m")
    assert len(described["explained_variance_ratio"]) == described["k"] == loaded.pc.numCols


PLAIN = """
import json, sys
from pyspark.ml.feature import PCAModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import SparkSession

model, features, output = sys.argv[1:]
spark = SparkSession.builder.master("local[1]").getOrCreate()
vectors = array_to_vector("features").alias("features")
rows = spark.read.parquet(features).select("image_key", vectors)
found = PCAModel.load(model).transform(rows)
pairs = found.select("image_key", vector_to_array("components").alias("components")).collect()
json.dump({row.image_key: row.components for row in pairs}, open(output, "w"))
"""


def test_a_plain_spark_session_projects_as_the_table(spark, storage, commit, tmp_path):
    """With nothing but pyspark, the model gives each image its components, less an offset."""
    X = commit(vectors())
    result = pca(arguments("--k", "6", "--scaler", "standard"), spark)
    lake, output = storage.folder / "fruits-lake", tmp_path / "found.json"
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHONPATH"))}
    words = [f"file://{lake}/models/pca/b-1/PCAModel", f"file://{lake}/{TABLE}", str(output)]

    subprocess.run(
        [sys.executable, "-c", PLAIN, *words], env=plain, cwd=tmp_path, check=True, timeout=600
    )

    by_spark, offset = json.loads(output.read_text()), np.array(result["model"]["spark_offset"])
    table = components(storage.folder, result)
    ours = dict(zip(table["image_key"].to_pylist(), table["components"].to_pylist(), strict=True))
    assert set(by_spark) == set(ours)
    norm = np.linalg.norm(X)
    difference = [np.array(by_spark[key]) - offset - ours[key] for key in ours]
    assert np.linalg.norm(difference) <= 1e-6 * norm


def test_the_model_comes_with_plots_and_figures(spark, storage, commit):
    """Of a sample of all images: with few of them, of every one."""
    commit(vectors())

    result = pca(arguments("--k", "6"), spark)

    model = result["model"]
    folder = storage.folder / "fruits-lake/models/pca/b-1"
    assert sorted(model["plots"]) == sorted(
        path.name for path in folder.iterdir() if path.suffix in (".png", ".svg")
    )
    assert len(model["plots"]) == 4
    assert model["quality"]["sampled_images"] == 300
    assert 0 <= model["quality"]["label_accuracy_after"] <= 1


def test_a_large_table_is_sampled_evenly(spark, storage, commit, monkeypatch):
    """Images of every file are drawn, about as many as wanted, the same ones each time."""
    commit(vectors(3000), files=3)
    seen = []
    monkeypatch.setattr("pca.SAMPLE", 600)
    monkeypatch.setattr("pca.quality", lambda sample, basis: seen.append(sample) or {})

    for _ in range(2):
        pca(arguments("--k", "2"), spark)

    first, second = (sorted(sample["image_key"].to_pylist()) for sample in seen)
    numbers = np.array([int(key[-8:-4]) for key in first])
    assert first == second
    assert 450 < len(set(first)) < 750
    assert len(set(first)) == len(first)
    assert np.bincount(numbers // 1000, minlength=3).min() > 130


def test_a_plot_that_cannot_be_drawn_costs_nothing_else(spark, storage, commit, monkeypatch):
    """The step succeeds, and result, model and log say what is missing."""
    commit(vectors(50))

    def fail(*_: object, **__: object) -> None:
        raise ImportError("No module named 'matplotlib'")

    monkeypatch.setattr("pca.write_plots", fail)
    result = pca(arguments("--k", "2"), spark)

    assert result["components"]["rows"] == 50
    assert result["model"]["plots"] == []
    assert result["warnings"] == ["there are no plots: ImportError: No module named 'matplotlib'"]


def test_an_unmet_target_is_in_result_model_and_log(spark, storage, commit, capsys):
    """Nobody has to guess why the cap's k explains less than was asked for."""
    commit(vectors())

    result = pca(arguments("--variance-target", "0.99", "--max-components", "3"), spark)

    assert result["model"]["k"] == 3
    assert result["model"]["variance_target_met"] is False
    assert "is not met" in result["warnings"][0]
    assert "WARNING: the variance target 0.99 is not met" in capsys.readouterr().out


def test_sorted_files_and_the_result_that_lists_them(spark, storage, commit):
    """A components file is sorted by label and key; result.json is what the step returned."""
    commit(vectors(100))

    result = pca(arguments("--k", "2"), spark)

    table = components(storage.folder, result)
    keys = list(zip(table["label"].to_pylist(), table["image_key"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    written = storage.folder / "fruits-lake/attempts/b/pca-1/result.json"
    assert json.loads(written.read_text()) == result
    assert result["components"]["rows"] == 100


def test_files_with_other_rows_than_listed_fail_the_step(spark, storage, commit):
    """A PCA of half the table would look like one of the whole."""
    commit(vectors(50), claim=1)

    with pytest.raises(Exception, match=r"0\.parquet is listed with 18 rows, but has 17"):
        pca(arguments("--k", "2"), spark)


def test_nan_in_a_committed_file_names_file_and_image(spark, storage, commit):
    """Whoever must repair the table knows where to look."""
    X = vectors(50)
    X[20, 3] = np.nan
    commit(X, files=1)

    with pytest.raises(Exception, match=r"0\.parquet has features of 'run/\d/0020\.jpg'"):
        pca(arguments("--k", "2"), spark)


def test_no_features_are_a_clear_error(spark, storage, commit):
    """An empty table cannot be fitted, and says so before Spark reads anything."""
    commit(vectors(5), files=1)
    listing = storage.folder / "fruits-lake/attempts/b/pca-1/features.json"
    listing.write_text('{"snapshot_id": 7, "feature_model": "m", "files": []}')

    with pytest.raises(CannotFit, match="lists no features"):
        pca(arguments("--k", "2"), spark)
