"""The pipeline of the notebooks that this project replaces, written anew from its description.

binaryFile, repartition(20), a SCALAR_ITER pandas UDF that builds the network in each task from
broadcast weights and calls Keras' `predict` on what Arrow hands over, Parquet of Spark's own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.jobs import Job, contend
from benchmarks.spark import session

PARTITIONS = 20
SIDE = 224


@contextmanager
def notebook(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the notebook's cells as a function."""
    from pyspark.sql.functions import PandasUDFType, col, element_at, pandas_udf, split

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with session(job) as spark:
        model = network()
        model.load_weights(Path(job.weights))
        weights = spark.sparkContext.broadcast(model.get_weights())

        def rebuilt() -> Any:
            copy = network()
            copy.set_weights(weights.value)
            return copy

        @pandas_udf("array<float>", PandasUDFType.SCALAR_ITER)  # type: ignore[call-overload]
        def featurize(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            model = rebuilt()
            for contents in batches:
                pixels = np.stack(contents.map(preprocess))
                yield pd.Series(list(model.predict(pixels, verbose=0)))

        def run(attempt: str) -> int:
            output = f"{job.output}/notebook/{attempt}"
            images = (
                spark.read.format("binaryFile")
                .option("pathGlobFilter", "*.jpg")
                .option("recursiveFileLookup", "true")
                .load(job.prefix)
            )
            labelled = images.withColumn("label", element_at(split(images["path"], "/"), -2))
            features = labelled.repartition(PARTITIONS).select(
                col("path"), col("label"), featurize("content").alias("features")
            )
            features.write.mode("overwrite").parquet(output)
            return spark.read.parquet(output).count()

        yield run


def network() -> Any:
    """Return MobileNetV2 without its top."""
    from keras.applications import MobileNetV2

    return MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(SIDE, SIDE, 3))


def preprocess(content: bytes) -> Any:
    """Return an image file as the network's input, float32[224, 224, 3]."""
    from keras.applications.mobilenet_v2 import preprocess_input
    from keras.utils import img_to_array
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB").resize((SIDE, SIDE))
    return preprocess_input(img_to_array(image))


if __name__ == "__main__":
    contend(notebook)
