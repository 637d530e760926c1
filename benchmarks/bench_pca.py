"""How long PCA takes: ours, Spark ML's and scikit-learn's, from the same Parquet on two cores.

    make bench-pca ROWS="20000 100000 300000"

Features are made up: non-negative, correlated, 1280 floats, in files of 25,000 rows behind a local
S3. Everything runs in one Spark session of two cores after a warm-up; figures are medians. Ours
reads through S3, Spark ML and scikit-learn read the same files from the disk.

Memory is the most that was resident while it ran, looked at twice a second: of the driver (this
process and its JVM) and of Spark's Python workers together, pages that they share counted for each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fruits_jobs.processors import blas_environment

# Two cores, like the session: scikit-learn would take all there are. Its BLAS is ours.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
os.environ |= blas_environment()

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks.environments import machine, storage
from benchmarks.jobs import LAKE, REGION
from benchmarks.spark import environment
from fruits_jobs.arguments import pca_parser
from fruits_jobs.bases import Wish, fit
from fruits_jobs.data_files import identified
from fruits_jobs.objects import write_json
from fruits_jobs.schemas import float_lists
from fruits_jobs.sessions import configuration
from fruits_jobs.statistics_cache import StatisticsCache, cached_statistics
from pca import pca

WIDTH, FILE_ROWS, DAY_ROWS, K, TARGET = 1280, 25_000, 1000, 128, 0.95
PEERS = ("ours", "spark", "sklearn", "incremental", "day")


def main() -> None:
    """Run what is asked for, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000, 300_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--output", type=Path, default=Path("var/bench/pca.json"))
    arguments = parser.parse_args()
    content, figures = {"machine": machine(), "k": K, "target": TARGET}, []
    with (
        tempfile.TemporaryDirectory(prefix="fruits-bench-") as folder,
        # S3 knows an object's ETag; rclone would compute the MD5 of the whole file at each request.
        storage(Path(folder), etag_hash="") as s3,
    ):
        os.environ |= environment()
        spark = session(s3.folder)
        for rows in arguments.rows:
            figures += measured(spark, s3.folder, rows, arguments.repeat, arguments.peers)
            content |= {"repeat": arguments.repeat, "figures": figures}
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps(content, indent=1) + "\n")
        spark.stop()
    print(f"{'rows':>8}  {'':<36} {'median':>9}  {'python':>8} {'jvm':>8} {'workers':>8}")
    for figure in figures:
        each = ", ".join(f"{seconds:.2f}" for seconds in figure["seconds"])
        memory = " ".join(
            f"{figure[name]:>5,} MB" for name in ("python_mb", "jvm_mb", "workers_mb")
        )
        told = f"{figure['what']:<36} {figure['median']:7.2f} s  {memory}   ({each})"
        print(f"{figure['rows']:>8,}  {told}")


def measured(
    spark: SparkSession, buckets: Path, rows: int, repeat: int, peers: list[str]
) -> list[dict[str, Any]]:
    """Return the figures of all *peers* for that many rows, in the folder that the S3 serves."""
    table = Table(buckets / "fruits-lake", rows)
    work: dict[str, dict[str, Callable[[], object]]] = {
        "ours": {"ours: fit, nothing cached": lambda: our_fit(spark, table)},
        "spark": {"pyspark.ml PCA: fit": lambda: spark_fit(spark, table)},
        "sklearn": {"scikit-learn PCA: read and fit": lambda: sklearn_fit(table)},
        "incremental": {"scikit-learn IncrementalPCA: same": lambda: incremental_fit(table)},
        "day": {
            "ours: whole step, everything anew": lambda: full_step(spark, table),
            f"ours: whole step, a day of {DAY_ROWS:,}": lambda: day_step(spark, table),
            "ours: HEAD of every data file": lambda: identified(table.listed(), REGION),
        },
    }
    our_fit(spark, Table(buckets / "fruits-lake", 2000))  # workers, imports, compiled code
    figures = []
    for peer in peers:
        for what, run in work[peer].items():
            with Memory() as memory:
                seconds = [timed(table, run) for _ in range(repeat)]
            median = statistics.median(seconds)
            figure = {"rows": rows, "what": what, "seconds": seconds, "median": median}
            figures.append(figure | memory.peaks)
            print(f"{rows:>8,}  {what}: {median:.2f} s", file=sys.stderr, flush=True)
    shutil.rmtree(table.folder)
    return figures


def timed(table: Table, run: Callable[[], object]) -> float:
    """Return the seconds that *run* takes; what a day has to find is put there before."""
    table.prepare()
    started = time.perf_counter()
    run()
    return round(time.perf_counter() - started, 3)


class Memory:
    """The most that driver and workers had resident, in MB, while a `with` block ran."""

    def __init__(self) -> None:
        self.peaks = {"python_mb": 0, "jvm_mb": 0, "workers_mb": 0}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.5):
            now = self._look()
            self.peaks = {name: max(self.peaks[name], now[name]) for name in now}

    def _look(self) -> dict[str, int]:
        me = psutil.Process()
        found = {"python_mb": me.memory_info().rss, "jvm_mb": 0, "workers_mb": 0}
        for process in me.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                name, size = process.name(), process.memory_info().rss
                if name == "java":
                    found["jvm_mb"] += size
                elif name.startswith("python"):
                    found["workers_mb"] += size
        return {name: size // 1_000_000 for name, size in found.items()}


class Table:
    """Files of made-up features, and one more of a day's."""

    def __init__(self, bucket: Path, rows: int) -> None:
        self.name = f"bench-{rows}"
        self.folder, self.rows = bucket / self.name, rows
        self.attempts = self.full = 0  # numbers of the last attempt, and of the last full step
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "features").mkdir(parents=True)
        self.counts = [min(FILE_ROWS, rows - start) for start in range(0, rows, FILE_ROWS)]
        for index, count in enumerate([*self.counts, DAY_ROWS]):
            name = "day" if index == len(self.counts) else f"features/{index:05d}"
            write_features(self.folder / f"{name}.parquet", index, count)
        time.sleep(0.5)  # until the S3 shows files that were written beside it

    def listed(self, *, day: bool = False) -> list[tuple[str, int]]:
        """Return (uri, rows) of the files."""
        base = f"{LAKE}/{self.name}"
        files = [(f"{base}/features/{i:05d}.parquet", n) for i, n in enumerate(self.counts)]
        return [*files, (f"{base}/day.parquet", DAY_ROWS)] if day else files

    def prepare(self) -> None:
        """Give the next attempt a folder of its own, with the last full step's cache and version.

        A cache that a day has used knows that day.
        """
        self.attempts += 1
        last = self.folder / f"statistics-full-{self.full}"
        if last.exists():
            shutil.copytree(last, self.folder / f"statistics-{self.attempts}")
            keys = [f"label/{len(self.counts):05d}-{i:06d}.jpg" for i in range(DAY_ROWS)]
            images = pa.table({"image_key": keys, "etag": ["e"] * DAY_ROWS})
            pq.write_table(images, self.folder / f"missing-{self.attempts}.parquet")
            time.sleep(0.5)


def write_features(path: Path, seed: int, count: int) -> None:
    """Write a file of *count* rows as the featurize step does."""
    shape = np.random.default_rng(0).normal(size=(200, WIDTH)).astype(np.float32)
    shape *= (0.97 ** np.arange(200, dtype=np.float32))[:, None]
    random = np.random.default_rng(seed + 1)
    X = random.normal(size=(count, 200)).astype(np.float32) @ shape
    X += 0.05 * random.normal(size=X.shape).astype(np.float32)
    X = np.maximum(X + 0.3, 0).astype(np.float32)
    keys = [f"label/{seed:05d}-{i:06d}.jpg" for i in range(count)]
    table = pa.table({"image_key": keys, "label": ["label"] * count, "etag": ["e"] * count})
    table = table.append_column("features", float_lists(X))
    pq.write_table(table, path, row_group_size=3200, compression="zstd", compression_level=1)


def our_fit(spark: SparkSession, table: Table) -> object:
    """Statistics of all files, none of them cached, and the basis."""
    done = spark.sparkContext.accumulator(0)
    folder = f"{LAKE}/{table.name}/unused-{table.attempts}/"
    files = identified(table.listed(), REGION)
    cache = StatisticsCache.open(folder, REGION)
    found = cached_statistics(spark.sparkContext, files, cache, done)
    return fit(found.statistics, Wish(k=K))


def spark_fit(spark: SparkSession, table: Table) -> object:
    """Fit Spark ML's PCA to the same files."""
    from pyspark.ml.feature import PCA
    from pyspark.ml.functions import array_to_vector

    rows = spark.read.parquet(f"file://{table.folder}/features")
    vectors = rows.select(array_to_vector(rows["features"]).alias("features"))
    return PCA(k=K, inputCol="features", outputCol="components").fit(vectors)


def read_all(table: Table) -> np.ndarray:
    """Return all features of the files, float32[N, 1280]."""
    files = sorted((table.folder / "features").iterdir())
    return np.concatenate([part for file in files for part in row_groups(file)])


def row_groups(path: Path) -> Iterator[np.ndarray]:
    """Yield the features of each row group of a file, float32[N, 1280]."""
    with pq.ParquetFile(path) as file:
        for group in range(file.metadata.num_row_groups):
            column = file.read_row_group(group, columns=["features"])["features"]
            yield column.combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)


def sklearn_fit(table: Table) -> object:
    """Fit scikit-learn's PCA with its fastest exact solver, in float64."""
    from sklearn.decomposition import PCA

    return PCA(K, svd_solver="covariance_eigh").fit(read_all(table).astype(np.float64))


def incremental_fit(table: Table) -> object:
    """Fit scikit-learn's IncrementalPCA, a row group at a time."""
    from sklearn.decomposition import IncrementalPCA

    model = IncrementalPCA(K)
    for path in sorted((table.folder / "features").iterdir()):
        for part in row_groups(path):
            if len(part) >= K:
                model.partial_fit(part)
    return model


def full_step(spark: SparkSession, table: Table) -> None:
    """Do the whole step with nothing to begin with: statistics, fit, components of every image."""
    result = step(spark, table, table.listed(), f"statistics-full-{table.attempts}")
    assert result["fitted"]
    table.full = table.attempts


def day_step(spark: SparkSession, table: Table) -> None:
    """Do the whole step for one more file, upon what the last full step left."""
    base, number = f"{LAKE}/{table.name}", table.attempts
    current = {
        "model_version": "before",
        "model": f"{base}/models/{table.full}/",
        "missing": f"{base}/missing-{number}.parquet",
        "missing_rows": DAY_ROWS,
        "components_snapshot_id": 1,
    }
    files = table.listed(day=True)
    result = step(spark, table, files, f"statistics-{number}", current)
    assert not result["fitted"], result["reason"]
    assert result["components"]["rows"] == DAY_ROWS


def step(
    spark: SparkSession,
    table: Table,
    files: list[tuple[str, int]],
    cache: str,
    current: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the pca step and return its result."""
    base = f"{LAKE}/{table.name}"
    work = f"{base}/attempts/{table.attempts}/"
    content = {
        "snapshot_id": 1,
        "feature_model": "m",
        "files": [{"uri": uri, "rows": rows} for uri, rows in files],
        "current": current,
    }
    write_json(f"{work}features.json", content, REGION)
    words = {
        "features": f"{work}features.json",
        "components": f"{work}components/",
        "model": f"{base}/models/{table.attempts}/",
        "model-version": str(table.attempts),
        "work": work,
        "statistics": f"{base}/{cache}/",
        "batch": "b",
        "region": REGION,
        "variance-target": str(TARGET),
        # 20,000 made-up rows meet the target so narrowly that their day would ask for a new
        # version: what is timed is a day that keeps the one that is there.
        "refit": "never" if current else "auto",
    }
    line = [word for name, value in words.items() for word in (f"--{name}", value)]
    with contextlib.redirect_stdout(sys.stderr):
        result = pca(pca_parser().parse_args(line), spark)
    print(f"          {result['seconds']}", file=sys.stderr)
    return result


def session(folder: Path) -> SparkSession:
    """Return a session of two cores, configured as the steps', with memory for Spark ML."""
    builder = SparkSession.Builder().master("local[2]").config("spark.ui.enabled", "false")
    settings = configuration("local") | {
        "spark.driver.memory": "6g",
        "spark.driver.maxResultSize": "2g",
        "spark.ui.showConsoleProgress": "false",
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        "spark.hadoop.fs.viewfs.overload.scheme.target.s3.impl": (
            "org.apache.hadoop.fs.RawLocalFileSystem"
        ),
        "spark.hadoop.fs.viewfs.mounttable.fruits-lake.linkFallback": f"file://{folder}/fruits-lake",
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


if __name__ == "__main__":
    main()
