"""What this machine's processor can do that the libraries do not see."""

from __future__ import annotations

from pathlib import Path

# What OpenBLAS' kernels for AVX-512 use, as /proc/cpuinfo names it.
AVX512 = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})
PROCESSOR = Path("/proc/cpuinfo")


def blas_environment() -> dict[str, str]:
    """Return the variables that let a NumPy that is imported later use this processor.

    The OpenBLAS in NumPy 2.4 takes AMD's Zen 5 for a Haswell, and needs half as long again.
    """
    return {"OPENBLAS_CORETYPE": "SkylakeX"} if processor_flags() >= AVX512 else {}


def processor_flags() -> frozenset[str]:
    """Return the processor's features, as Linux names them; none where it does not tell."""
    if not PROCESSOR.exists():
        return frozenset()
    lines = (line.partition(":") for line in PROCESSOR.read_text().splitlines())
    flags = next((value for name, _, value in lines if name.strip() == "flags"), "")
    return frozenset(flags.split())
