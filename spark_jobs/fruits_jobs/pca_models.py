"""A fitted PCA in the three forms that people read: Spark ML, NumPy and JSON."""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fruits_jobs.bases import Basis
from fruits_jobs.objects import read_bytes, read_json, write_bytes, write_json

if TYPE_CHECKING:
    from pyspark.ml.feature import PCAModel
    from pyspark.sql import SparkSession


class UnreadableModel(RuntimeError):  # noqa: N818
    """The model under *folder* is gone or damaged, so that nothing can be projected with it."""

    def __init__(self, folder: str, error: Exception) -> None:
        super().__init__(f"{folder} cannot be read: {error}")
        self.folder = folder


@dataclass(frozen=True)
class FittedModel:
    """A version as it was written: *basis*, and *description*, the content of model.json."""

    basis: Basis
    description: dict[str, Any]

    @property
    def scaler(self) -> str:
        """How its features were scaled."""
        return str(self.description["scaler"])

    @property
    def version(self) -> str:
        """Its name."""
        return str(self.description["model_version"])

    @property
    def variance_target(self) -> float | None:
        """The target that chose its k; None if k was given."""
        target = self.description["variance_target"]
        return None if target is None else float(target)


def read_model(folder: str, region: str) -> FittedModel:
    """Return the version that :func:`write_model` wrote; UnreadableModel if it is not whole."""
    try:
        description = read_json(f"{folder}model.json", region)
        archive = read_bytes(f"{folder}pca.npz", region)
        if hashlib.sha256(archive).hexdigest() != description["pca_npz_sha256"]:
            raise ValueError("pca.npz is not the one that model.json describes")
        with np.load(io.BytesIO(archive)) as arrays:
            mean, scale, basis = arrays["mean"], arrays["scale"], arrays["basis"]
            eigenvalues, met = arrays["eigenvalues"], description["variance_target_met"]
        return FittedModel(Basis(mean, scale, basis, eigenvalues, met, ()), description)
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        # Not every OSError: an S3 that does not answer says nothing about the model.
        raise UnreadableModel(folder, error) from error


def write_model(
    spark: SparkSession, basis: Basis, description: dict[str, Any], folder: str, region: str
) -> dict[str, Any]:
    """Write PCAModel/, pca.npz and, last, model.json under *folder*; return what is in the latter.

    That is *description* with the hash of pca.npz, so that no basis is taken for another.
    """
    spark_model(spark, basis).write().overwrite().save(f"{folder}PCAModel")
    archive = npz(basis)
    write_bytes(f"{folder}pca.npz", archive, region)
    described = description | {"pca_npz_sha256": hashlib.sha256(archive).hexdigest()}
    write_json(f"{folder}model.json", described, region)
    return described


def npz(basis: Basis) -> bytes:
    """Return the NumPy archive: mean [D], scale [D], basis [D, k], eigenvalues [D]; float64."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mean=basis.mean,
        scale=basis.scale,
        basis=basis.basis,
        eigenvalues=basis.eigenvalues,
    )
    return buffer.getvalue()


def spark_offset(basis: Basis) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what to subtract, [k], from the output of Spark's PCAModel to get our components.

    Spark's model neither centres nor scales: it has ``basis / scale`` as its matrix, and the mean's
    part of ``((x - mean) / scale) @ basis`` is the same for every x.
    """
    offset: np.ndarray[Any, np.dtype[np.float64]] = (basis.mean / basis.scale) @ basis.basis
    return offset


def spark_model(spark: SparkSession, basis: Basis) -> PCAModel:
    """Return the PCA as a Spark ML model, without fitting anything."""
    from pyspark.ml.common import _py2java
    from pyspark.ml.feature import PCAModel
    from pyspark.ml.linalg import DenseMatrix, DenseVector

    # PCAModel has no public constructor in Python; its Scala class has one.
    context = spark.sparkContext
    matrix = basis.basis / basis.scale[:, None]
    rows, columns = matrix.shape
    java: Any = context._jvm
    model = java.org.apache.spark.ml.feature.PCAModel(
        f"PCAModel_{uuid.uuid4().hex[:12]}",
        _py2java(context, DenseMatrix(rows, columns, matrix.ravel(order="F"))),
        _py2java(context, DenseVector(basis.explained_variance_ratio)),
    )
    model.set(model.k(), columns)  # transform asks for it, and only `fit` would have set it
    return PCAModel(model).setInputCol("features").setOutputCol("components")
