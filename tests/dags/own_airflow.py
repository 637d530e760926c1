"""Runs a DAG file that ends with a run of its own, in an Airflow of which nothing else knows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.dags.conftest import ROOT


def run_in_own_airflow(name: str, home: Path, **variables: str) -> Any:
    """Run the file *name* beside this one with AIRFLOW_HOME *home*; return its last line's JSON."""
    (home / "dags").mkdir()
    program = shutil.copy(Path(__file__).with_name(name), home / "dags")
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "0",  # none
        "PYTHONPATH": str(ROOT / "plugins"),
    }
    done = subprocess.run(
        [sys.executable, program],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
