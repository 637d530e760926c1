"""Spark as both jobs want it, and what a job's end looks like to who reads its log."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from fruits_jobs.objects import write_json
from fruits_jobs.processors import blas_environment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ONE_THREAD = {
    f"spark.executorEnv.{name}": "1"
    for name in (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        "TOKIO_WORKER_THREADS",  # of obstore
    )
}
# What a second try would meet again, by name: of a worker's error Spark leaves nothing else.
LASTING = frozenset({"AccessDenied", "Archived", "UnknownBackbone", "WeightsDoNotFit"})
CONFIGURATION = {
    "spark.sql.session.timeZone": "UTC",  # else Arrow timestamps would carry the machine's zone
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1024",  # 5 MB of features, not 10,000 rows
    "spark.python.worker.reuse": "true",  # a worker that ends takes its loaded network with it
    **ONE_THREAD,  # Spark already runs one Python worker per core
}


def configuration(master: str) -> dict[str, str]:
    """Return how a session of ours is configured: CONFIGURATION, and what workers here can use.

    On a cluster the driver does not know its workers' processors. OpenBLAS knows those that we have
    prices for.
    """
    here = blas_environment() if master.startswith("local") else {}
    return CONFIGURATION | {f"spark.executorEnv.{name}": value for name, value in here.items()}


def spark_session(name: str) -> SparkSession:
    """Return the application's session; master and resources are spark-submit's business."""
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

    builder = SparkSession.Builder().appName(name)
    for key, value in configuration(SparkConf().get("spark.master", "")).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def run_spark_step(
    name: str,
    step: Callable[[argparse.Namespace, SparkSession], object],
    arguments: argparse.Namespace,
) -> int:
    """Run *step* in a Spark session of its own and return the exit code, as :func:`run_step`."""

    def in_session() -> None:
        spark = spark_session(f"{name} {arguments.batch}")
        try:
            step(arguments, spark)
        finally:
            spark.stop()

    return run_step(name, in_session, arguments.work, arguments.region)


def run_step(name: str, step: Callable[[], None], work: str = "", region: str = "") -> int:
    """Run *step* and return the exit code.

    A failure ends stderr with its cause on one line, and leaves it as ``failure.json`` in the
    folder *work*, if there is one: EMR brings logs to S3 minutes later, and shows little of them.
    *lasting* there says that the same step would fail again.
    """
    try:
        step()
    except Exception as error:  # noqa: BLE001  (the last place where it can be told)
        traceback.print_exc()
        told = cause(error)
        tell_cause(f"{name} failed: {told}")
        if work:
            lasting = told.partition(":")[0] in LASTING
            left = {"step": name, "cause": told, "lasting": lasting}
            leave_cause(f"{work}failure.json", left, region)
        return 1
    return 0


def leave_cause(uri: str, content: dict[str, object], region: str) -> None:
    """Write *content* to *uri*, unless S3 itself is what failed."""
    try:
        write_json(uri, content, region)
    except Exception:  # noqa: BLE001  (the failure itself must stay the last word)
        traceback.print_exc()


def tell_cause(line: str) -> None:
    """Write *line* to stderr, and to that of spark-submit if this is its program."""
    sys.stderr.write(f"{line}\n")
    # spark-submit merges a Python program's stderr into its own stdout, and people look in stderr.
    pyspark = sys.modules.get("pyspark")
    jvm = pyspark.SparkContext._jvm if pyspark else None
    if jvm:
        # A JVM that died is perhaps what failed, and failure.json is still to be written.
        with contextlib.suppress(Exception):
            jvm.java.lang.System.err.println(line)


def cause(error: BaseException) -> str:
    """Return the cause of *error* on one line; a Spark error's is what its worker raised.

    Spark wraps the traceback of a Python worker in a text that is mostly Java's stack. Of chained
    exceptions it is the last one: ours, which says what to do, and not the library's behind it.
    """
    _, _, traceback_ = str(error).partition("Traceback (most recent call last)")
    told = traceback_.split("\n\tat ")[0]  # without Java's own
    if raised := re.findall(r"^(?:[a-z_]\w*\.)*([A-Z]\w*: .+)$", told, flags=re.MULTILINE):
        return str(raised[-1])
    text = " ".join(str(error).split("Debug source")[0].split()) or "no message"
    return f"{type(error).__name__}: {text[:2000]}"
