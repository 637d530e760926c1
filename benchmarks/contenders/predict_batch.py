"""Spark's own way: binaryFile and `predict_batch_udf`, with the network in LiteRT as ours.

Two forms. *tensor*, as its documentation shows: a pandas UDF decodes to a flattened array, which
`input_tensor_shapes` folds again. *bytes*: the predict function gets the files and decodes them
itself, which spares Spark 150,528 values an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.contenders.network import SIDE, load, pixels_of
from benchmarks.jobs import Job, contend
from benchmarks.spark import session

BATCH = 8


@contextmanager
def predict_batch(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the pipeline as a function."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.functions import pandas_udf
    from pyspark.sql.types import ArrayType, FloatType

    form = job.option("form", "bytes")
    # Pixels are 600 KB a row as floats: Arrow's default of 10,000 rows would be gigabytes.
    rows = {"spark.sql.execution.arrow.maxRecordsPerBatch": "128" if form == "tensor" else "1024"}
    with session(job, rows) as spark:
        model = spark.sparkContext.broadcast(Path(job.network).read_bytes())

        def make_predict() -> Callable[[Any], Any]:
            infer = load(model.value)
            if form == "tensor":
                return lambda pixels: infer(pixels.astype(np.uint8))
            return lambda files: infer(np.stack([pixels_of(file) for file in files]))

        predict = predict_batch_udf(
            make_predict,
            return_type=ArrayType(FloatType()),
            batch_size=BATCH,
            input_tensor_shapes=[[SIDE, SIDE, 3]] if form == "tensor" else None,
        )

        @pandas_udf("array<float>")  # type: ignore[call-overload]
        def decoded(files: pd.Series) -> pd.Series:
            return files.map(lambda file: pixels_of(file).astype(np.float32).ravel())

        def run(attempt: str) -> int:
            output = f"{job.output}/predict-batch/{attempt}"
            images = (
                spark.read.format("binaryFile")
                .option("recursiveFileLookup", "true")
                .load(job.prefix)
                # binaryFile packs small files into few partitions: without this one core idles.
                .repartition(4 * job.cores)
            )
            content = decoded("content") if form == "tensor" else images["content"]
            images.select("path", predict(content).alias("features")).write.parquet(output)
            return spark.read.parquet(output).count()

        yield run


if __name__ == "__main__":
    contend(predict_batch)
