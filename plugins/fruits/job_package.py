"""The Spark jobs as files to upload, found beside this package and named by their content."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JOBS = ROOT / "spark_jobs"
ENTRY_POINTS = {"featurize": JOBS / "featurize.py", "pca": JOBS / "pca.py"}
EXPORT_NETWORK = JOBS / "export_network.py"
EXPORT_COMPONENTS = JOBS / "export_components.py"
INSTALL_PYTHON_ENV = ROOT / "bootstrap" / "node" / "install_python_env.sh"
LIMIT_LIFETIME = ROOT / "bootstrap" / "node" / "limit_lifetime.sh"


def package_zip() -> bytes:
    """Return the zip of the package that both jobs import (spark-submit's --py-files).

    The same sources give the same bytes: entries are sorted and carry no time.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted((JOBS / "fruits_jobs").rglob("*.py")):
            entry = zipfile.ZipInfo(str(source.relative_to(JOBS)), (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, source.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@cache
def package_hash() -> str:
    """Return the SHA-256 of everything that a step runs: package and entry points."""
    digest = hashlib.sha256(package_zip())
    for entry_point in (*ENTRY_POINTS.values(), EXPORT_NETWORK):
        digest.update(entry_point.read_bytes())
    return digest.hexdigest()
