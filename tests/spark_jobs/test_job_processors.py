"""The BLAS that NumPy's workers get: of the processor's own kind, and only where it is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fruits_jobs import processors
from fruits_jobs.processors import AVX512, blas_environment
from fruits_jobs.sessions import CONFIGURATION, configuration

NAME = "spark.executorEnv.OPENBLAS_CORETYPE"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that the processor is read from."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processors, "PROCESSOR", file)
    return file


def test_workers_beside_the_driver_get_the_kernels_of_avx512(told: Path) -> None:
    """OpenBLAS takes a Zen 5 for a Haswell; a cluster's processors are not the driver's."""
    told.write_text(f"processor\t: 0\nflags\t\t: fpu {' '.join(AVX512)} sha_ni\n")

    assert configuration("local[2,4]") == CONFIGURATION | {NAME: "SkylakeX"}
    assert configuration("yarn") == CONFIGURATION


@pytest.mark.parametrize("lines", ["flags : fpu avx avx2 avx512f\n", "Features : asimd\n", ""])
def test_a_processor_without_them_is_left_alone(told: Path, lines: str) -> None:
    """Those kernels would end the process there."""
    told.write_text(lines)

    assert blas_environment() == {}
    assert NAME not in configuration("local[2]")


def test_numpy_computes_with_what_is_said_of_this_machine() -> None:
    """A new Python with that environment multiplies matrices, and is not ended by it."""
    code = "import numpy as np; X = np.eye(300) * 2; assert (X.T @ X).sum() == 1200"

    done = subprocess.run([sys.executable, "-c", code], env=blas_environment(), check=False)

    assert done.returncode == 0
