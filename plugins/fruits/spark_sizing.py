"""How Spark shares out a worker node: executors of a few cores, most of their memory for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fruits.errors import FruitsError
from fruits.settings import Engine

if TYPE_CHECKING:
    from fruits.costs import Price

CORES = 4  # fits every type from xlarge on; all known types are multiples of it
# YARN gets at least this share of a node's memory on every type that EMR knows.
YARN_SHARE = 0.75
# In client mode a container of YARN's own sits beside the executors of one node.
APPLICATION_MASTER_MB = 1024
YARN_STEP_MB = 32  # EMR's yarn.scheduler.minimum-allocation-mb: YARN rounds containers up to it
HEAP_SHARE = 0.25  # the JVM moves Arrow batches; networks and photographs are Python's
# A Python worker per core: the loaded network, its batch, and photographs that are being decoded.
PYTHON_MB = {Engine.LITERT: 600, Engine.TENSORFLOW: 900}


class TooLittleMemoryError(FruitsError):
    """A node has too little memory per core for an engine; fields: instance_type, python_mb."""

    instance_type: str
    python_mb: int


def executor_settings(
    instance_type: str, node: Price, workers: int, engine: Engine
) -> dict[str, str]:
    """Return the spark-defaults that fill *workers* nodes of *instance_type*, exactly.

    Raises TooLittleMemoryError where a core's Python worker would not fit.
    """
    per_node = max(node.vcpus // CORES, 1)
    cores = min(CORES, node.vcpus)
    yarn = int(node.memory_gib * 1024 * YARN_SHARE) - APPLICATION_MASTER_MB
    container = yarn // per_node // YARN_STEP_MB * YARN_STEP_MB
    heap = int(container * HEAP_SHARE)
    overhead = container - heap
    _check_python(instance_type, overhead // cores, engine)
    return {
        "spark.executor.cores": str(cores),
        "spark.executor.memory": f"{heap}m",
        "spark.executor.memoryOverhead": f"{overhead}m",
        # The cluster has the size of the batch: every executor from the start, none comes or goes.
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.instances": str(per_node * workers),
    }


def _check_python(instance_type: str, python_mb: int, engine: Engine) -> None:
    if python_mb < PYTHON_MB[engine]:
        raise TooLittleMemoryError(
            f"{instance_type} leaves {python_mb} MB for each Python worker, the engine {engine} "
            f"needs {PYTHON_MB[engine]}.",
            "Take a type with more memory per core (m6i instead of c6i): "
            "FRUITS_WORKER_INSTANCE_TYPE.",
            instance_type=instance_type,
            python_mb=python_mb,
        )
