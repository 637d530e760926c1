"""What PySpark's daemon does between two tasks of a worker, made cheap: 140 ms each otherwise.

It collects garbage, which walks over every object of the libraries that are loaded, and it has
Python read the directories of all zips on the import path again, PySpark's own with 1,900 files
among them (pyspark/daemon.py and pyspark/worker_util.py; Python 3.11's zipimport). And it sends the
end of a task as a second small packet, which the kernel holds back until the first one has been
acknowledged, 40 ms later (Nagle's algorithm, RFC 896, and delayed acknowledgements, RFC 1122).
"""

from __future__ import annotations

import gc
import socket
import sys
from functools import cache
from types import FrameType
from zipimport import zipimporter


def keep_loaded() -> None:
    """Call it in a worker that is reused, at each task, once it has loaded what it needs.

    What is loaded is no garbage, the zips of a running job never change, and the JVM waits for the
    end of the task.
    """
    _freeze()
    _send_at_once()
    finders = sys.path_importer_cache
    for path in [path for path, finder in finders.items() if isinstance(finder, zipimporter)]:
        del finders[path]  # an import that needs it makes a new one, from zipimport's own cache


@cache  # counting what is frozen would take 7 ms a task
def _freeze() -> None:
    gc.collect()
    gc.freeze()


@cache  # a worker keeps its connection to the JVM
def _send_at_once() -> None:
    frame: FrameType | None = sys._getframe()
    while frame:
        connection = frame.f_locals.get("sock")  # a variable of the daemon's function `worker`
        if isinstance(connection, socket.socket) and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        frame = frame.f_back
