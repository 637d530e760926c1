"""What PySpark's daemon does between two tasks of a worker, made cheap: 100 ms each otherwise.

It collects garbage, which walks over every object of the libraries that are loaded, and it has
Python read the directories of all zips on the import path again, PySpark's own with 1,900 files
among them (pyspark/daemon.py and pyspark/worker_util.py; Python 3.11's zipimport).
"""

from __future__ import annotations

import gc
import sys
from functools import cache
from zipimport import zipimporter


def keep_loaded() -> None:
    """Call it in a worker that is reused, at each task, once it has loaded what it needs.

    What is loaded is no garbage, and the zips of a running job never change.
    """
    _freeze()
    finders = sys.path_importer_cache
    for path in [path for path, finder in finders.items() if isinstance(finder, zipimporter)]:
        del finders[path]  # an import that needs it makes a new one, from zipimport's own cache


@cache  # counting what is frozen would take 7 ms a task
def _freeze() -> None:
    gc.collect()
    gc.freeze()
