"""Between two tasks a worker walks over no garbage, reads no zips again, and is not waited for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PROGRAM = """
import gc, importlib, sys
from zipimport import zipimporter

def zips():
    finders = sys.path_importer_cache
    return [path for path, finder in finders.items() if isinstance(finder, zipimporter)]

import first
from fruits_jobs.worker_reuse import keep_loaded

assert zips(), "the test shows nothing"
keep_loaded()
assert not zips(), zips()
frozen = gc.get_freeze_count()
assert frozen > 1000, frozen
importlib.invalidate_caches()
import second
assert second.VALUE == 2
keep_loaded()
assert not zips(), zips()
assert gc.get_freeze_count() <= frozen, "what a task leaves must stay collectable"
"""


def test_zips_are_not_read_again_and_what_is_loaded_is_no_garbage(tmp_path: Path) -> None:
    """Modules that a zip still holds are found when they are wanted later."""
    with zipfile.ZipFile(tmp_path / "job.zip", "w") as archive:
        archive.writestr("first.py", "VALUE = 1\n")
        archive.writestr("second.py", "VALUE = 2\n")
    path = os.pathsep.join([str(tmp_path / "job.zip"), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)


def test_the_end_of_a_task_is_sent_at_once(spark_application: SparkSession) -> None:
    """Held back until the packet before it is acknowledged, it would come 40 ms later."""

    def delays() -> list[int]:  # TCP_NODELAY of each TCP connection of this process
        found = []
        for path in filter(Path.is_socket, list(Path("/dev/fd").iterdir())):
            # One that was closed since it was listed is no connection.
            with suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as connection:
                if connection.family == socket.AF_INET:
                    found.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return found

    def connections(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from fruits_jobs.worker_reuse import keep_loaded

        list(batches)
        before = delays()
        keep_loaded()
        yield pa.RecordBatch.from_pydict({"before": [before], "after": [delays()]})

    schema = "before array<bigint>, after array<bigint>"
    (found,) = spark_application.range(1, numPartitions=1).mapInArrow(connections, schema).collect()

    assert found.before, "the test shows nothing: a worker has a connection to its JVM"
    assert all(found.after)
