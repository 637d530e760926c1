"""The commands of this package, as somebody types them whose credentials are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# In one process: each would import PyIceberg anew.
ALL = """
import sys
from fruits import batch, exports, sweeps, watchdog

sys.argv = ["batch"]
print(batch.main(), exports.main(["components"]), sweeps.main([]), watchdog.main([]))
"""


def test_missing_credentials_are_a_line_and_no_traceback(tmp_path: Path) -> None:
    """Each command returns 1 and says what botocore says."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYICEBERG_CATALOG__FRUITS__TYPE": "glue",
        "PYICEBERG_CATALOG__FRUITS__GLUE__REGION": "eu-west-3",
    }

    done = subprocess.run(
        [sys.executable, "-c", ALL], env=environment, capture_output=True, text=True, check=False
    )

    said = done.stdout + done.stderr
    assert done.stdout.splitlines()[-1:] == ["1 1 1 1"], said
    assert said.count("Unable to locate credentials") == 4
    assert "Traceback" not in said


def test_missing_catalog_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    """A command that is typed outside `make shell` says where it is to be typed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    export = "import sys; from fruits import exports; sys.exit(exports.main(['components']))"

    done = subprocess.run(
        [sys.executable, "-c", export], env=environment, capture_output=True, text=True, check=False
    )

    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "NoCatalogError" in said
    assert "make shell" in said
    assert "Traceback" not in said
