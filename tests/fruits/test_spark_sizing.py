"""Spark's share of a node: it fits, it fills the node, and too small a node is refused."""

from __future__ import annotations

import pytest

from fruits.costs import read_prices
from fruits.settings import EU_REGIONS, Engine
from fruits.spark_sizing import APPLICATION_MASTER_MB, TooLittleMemoryError, executor_settings

PRICES = {region: read_prices(region) for region in EU_REGIONS}
TYPES = sorted({name for prices in PRICES.values() for name in prices.instances})


def megabytes(setting: str) -> int:
    """Return a memory setting's number."""
    return int(setting.removesuffix("m"))


@pytest.mark.parametrize("instance_type", TYPES)
def test_executors_fill_a_node_and_fit(instance_type: str) -> None:
    """All cores are used; heap and overhead leave room for YARN's own container, on every node."""
    node = PRICES["eu-west-1"].price(instance_type)

    spark = executor_settings(instance_type, node, 3, Engine.LITERT)

    per_node = int(spark["spark.executor.instances"]) // 3
    container = megabytes(spark["spark.executor.memory"]) + megabytes(
        spark["spark.executor.memoryOverhead"]
    )
    assert per_node * int(spark["spark.executor.cores"]) == node.vcpus
    used = per_node * container + APPLICATION_MASTER_MB
    assert 0.74 <= used / (node.memory_gib * 1024) <= 0.75


def test_tensorflow_wants_more_memory_than_litert() -> None:
    """A type that is too small is refused before it costs anything, with one that is not."""
    node = PRICES["eu-west-3"].price("c6i.2xlarge")

    assert executor_settings("c6i.2xlarge", node, 1, Engine.TENSORFLOW)
    small = type(node)(vcpus=8, memory_gib=12, ec2=1, emr=1)
    assert executor_settings("x", small, 1, Engine.LITERT)
    with pytest.raises(TooLittleMemoryError, match="needs 900"):
        executor_settings("x", small, 1, Engine.TENSORFLOW)
