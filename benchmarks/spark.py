"""The Spark session of every contender that uses Spark: the same cores, memory and S3 mapping."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.jobs import Job
from local_cloud.java import BRIEF_JVM, java_home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BUCKETS = ("fruits-images", "fruits-lake")
# The local cloud gives our steps these options. Peers, to whom the JVM's second compiler may be of
# use, have Spark as it comes.
OUR_JVM = {"SPARK_SUBMIT_OPTS": BRIEF_JVM}


def settings(job: Job) -> dict[str, str]:
    """Return the settings of a job's cores and buckets."""
    return local_settings(job.cores, job.buckets)


def local_settings(cores: int, buckets: str) -> dict[str, str]:
    """Return the settings that an EMR cluster's spark-defaults and file system stand for."""
    view = "spark.hadoop.fs.viewfs"
    mounts = {
        f"{view}.mounttable.{bucket}.linkFallback": f"s3://{buckets}/{bucket}" for bucket in BUCKETS
    }
    return {
        "spark.master": f"local[{cores},4]",
        "spark.driver.memory": "2g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        f"{view}.overload.scheme.target.s3.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        **mounts,
    }


def environment() -> dict[str, str]:
    """Return what Spark needs to find: a Java, and this Python for its workers."""
    return {"JAVA_HOME": str(java_home()), "PYSPARK_PYTHON": sys.executable}


@contextmanager
def session(job: Job, more: dict[str, str] | None = None) -> Iterator[SparkSession]:
    """Open a session of the job's cores with those settings and *more*."""
    from pyspark.sql import SparkSession

    os.environ |= environment()
    builder = SparkSession.Builder().appName("benchmark")
    for key, value in (settings(job) | (more or {})).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    yield spark
    spark.stop()
