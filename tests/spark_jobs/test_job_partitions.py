"""Which Spark partition a row goes to: that of its file's number, on every Spark from 3.5 on."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  (as Spark's own documentation has it)

from fruits_jobs.featurizing_plan import by_number, partition_keys

FILES = 7


@pytest.fixture(params=["this Spark", "a Spark before 4.1"])
def rows(
    spark: SparkSession, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> DataFrame:
    """Return rows of every file, in a Spark that can send rows to a partition or cannot."""
    if request.param != "this Spark":
        for kind in type(spark.range(1)).__mro__:
            if "repartitionById" in vars(kind):
                monkeypatch.delattr(kind, "repartitionById")
    return spark.range(1000).select((F.col("id") % FILES).cast("int").alias("file"))


def test_each_file_has_a_partition_of_its_own(spark: SparkSession, rows: DataFrame) -> None:
    """The partition's number is the file's: none is shared, and none is empty."""
    spread = by_number(spark, rows, FILES)

    assert spread.rdd.getNumPartitions() == FILES
    found = spread.select("file", F.spark_partition_id().alias("partition")).distinct().collect()
    assert {(row.file, row.partition) for row in found} == {(n, n) for n in range(FILES)}


@pytest.mark.parametrize("partitions", [1, 2, 64])
def test_every_partition_has_a_key(spark: SparkSession, partitions: int) -> None:
    """However many there are; no two have the same."""
    keys = partition_keys(spark, partitions)

    assert len(set(keys)) == partitions
