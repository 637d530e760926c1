"""The benchmark of sensing measures each size over tables of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_sizes_are_measured_one_after_the_other(tmp_path: Path) -> None:
    """Each has its figure, whose counts are those of its keys; the table names all."""
    output = tmp_path / "sensing.json"
    command = [sys.executable, "-m", "benchmarks.bench_sensing", "--output", str(output)]
    sizes = ["--repeat", "1", "--keys", "1000", "2000"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(
        [*command, *sizes], env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads(output.read_text())["figures"]
    assert [one["keys"] for one in figures] == [1000, 2000]
    assert [one["counts"]["replaced"] for one in figures] == [100, 200]
    assert all(one["peak_mb"] > 0 for one in figures)
    assert "| 1,000 |" in done.stdout
    assert "| 2,000 |" in done.stdout
