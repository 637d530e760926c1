"""Between two tasks a worker is neither walked over for garbage nor sent to read its zips again."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

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
