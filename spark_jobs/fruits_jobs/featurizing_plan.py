"""The Spark side of featurize: which workers get which images, and how rows become sorted files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fruits_jobs.featurizing import Counters, FeaturizeTask, featurize_range
from fruits_jobs.outcome_files import Destination, write_outcomes
from fruits_jobs.ranges import RowRange
from fruits_jobs.schemas import OUTCOMES_DDL, WRITTEN_DDL

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class Plan:
    """The *ranges* of the manifest, one per Spark task, what to do with them and where to write."""

    ranges: list[RowRange]
    task: FeaturizeTask
    destination: Destination
    counters: Counters

    @property
    def files(self) -> int:
        """The number of files that the features are spread over."""
        return -(-self.ranges[-1].stop // self.task.rows_per_file)


def write_features(spark: SparkSession, plan: Plan, parameters: Any) -> list[Row]:
    """Run the network once per image, write every outcome, and return one WRITTEN row per file.

    *parameters* (a LiteRT model's bytes or Keras weights) are broadcast once. Only files of
    successful Spark tasks are returned; what a failed task left is never listed.
    """
    ranges, task, counters, destination = plan.ranges, plan.task, plan.counters, plan.destination
    network = spark.sparkContext.broadcast(parameters)

    def work(batches: Batches) -> Batches:
        for batch in batches:
            for index in batch.column(0).to_numpy():
                yield from featurize_range(task, ranges[int(index)], network, counters)

    def write(batches: Batches) -> Batches:
        from pyspark import TaskContext

        context = TaskContext.get()
        attempt = context.taskAttemptId() if context else 0
        yield from write_outcomes(destination, attempt, batches)

    outcomes = spark.range(0, len(ranges), 1, len(ranges)).mapInArrow(work, OUTCOMES_DDL)
    # By number, not by range: Spark would sample for a range, and run the network for the sample.
    files = by_number(spark, outcomes, plan.files)
    written = files.sortWithinPartitions("label", "image_key").mapInArrow(write, WRITTEN_DDL)
    rows = written.collect()
    network.destroy()
    return rows


def by_number(spark: SparkSession, rows: DataFrame, files: int) -> DataFrame:
    """Return the *rows* in partitions whose numbers are their column ``file``, 0 to *files* - 1."""
    if hasattr(rows, "repartitionById"):  # since Spark 4.1
        return rows.repartitionById(files, "file")
    from pyspark.sql import functions as F  # noqa: N812  (as Spark's own documentation has it)

    keys = F.array(*map(F.lit, partition_keys(spark, files))).cast("array<bigint>")
    return rows.repartition(files, F.get(keys, F.col("file")))


def partition_keys(spark: SparkSession, partitions: int) -> list[int]:
    """Return for each partition's number a key that Spark hashes to it, among that many.

    Spark spreads rows by hash, so several numbers would share a partition and others have none.
    """
    found: dict[int, int] = {}
    start, count = 0, 16 * partitions + 64
    while len(found) < partitions:
        hashed = f"pmod(hash(id), {partitions}) AS partition"
        for row in spark.range(start, start + count).selectExpr("id", hashed).collect():
            found.setdefault(row.partition, row.id)
        start += count
    return [found[number] for number in range(partitions)]
