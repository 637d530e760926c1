"""A Python as nodes have it: the packages of their lock, and Spark's own PySpark as a zip."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "bootstrap" / "node" / "requirements.txt"


def make_node_python(folder: Path) -> Path:
    """Make an environment in *folder* and return its Python.

    What is installed here is linked, but only that of the lock: a package that a step needs and
    nodes have not is missing here, too. EMR's PySpark is one of those that no installer knows.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    pinned = (line for line in LOCK.read_text().splitlines() if line[:1].isalpha())
    for wanted in (Requirement(line.rstrip("\\ ")) for line in pinned):
        if wanted.marker is None or wanted.marker.evaluate():
            for top in _contents(wanted.name):
                (packages / top.name).symlink_to(top)
    return folder / "bin" / "python"


def _contents(name: str) -> set[Path]:
    """Return the files and folders of an installed distribution, right under site-packages."""
    found = distribution(name)
    tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    return {Path(str(found.locate_file(top))) for top in tops}
