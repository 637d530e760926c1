"""Days that happen to a features table, at random: for properties of sums and of PCA."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.spark_jobs.feature_tables import FeatureTable

D = 6
SEEDS = st.integers(0, 2**32 - 1)
KINDS = ("relu", "offset", "constant column", "identical", "tiny", "two values")
DAYS = st.tuples(st.sampled_from(["add", "add", "remove", "replace"]), SEEDS)


def vectors(n: int, seed: int, kind: str = "relu") -> np.ndarray:
    """Return float32[n, 6] of a kind that has hurt somebody's PCA."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n, D)) @ np.random.default_rng(1).normal(size=(D, D))
    if kind == "offset":
        return (mixed * 0.01 + 1000).astype(np.float32)
    if kind == "constant column":
        mixed[:, 2] = 0.5
    if kind == "identical":
        mixed[:] = mixed[:1]
    if kind == "tiny":
        mixed *= 1e-20
    if kind == "two values":
        mixed = np.sign(mixed)
    return np.maximum(mixed + 0.3, 0).astype(np.float32)


def happen(table: FeatureTable, day: tuple[str, int]) -> None:
    """Let a random add, removal or replacement happen to *table*."""
    what, seed = day
    random = np.random.default_rng(seed)
    count = len(table.images)
    kind = KINDS[seed % len(KINDS)]
    if what == "add" or not count:
        table.add(vectors(int(random.integers(1, 40)), seed, kind))
        return
    # Now and then a whole file, or all there is.
    chosen = random.random(count) < random.choice([0.05, 0.5, 1.0])
    if random.random() < 0.3:
        first = len(next(iter(table.files.values()))[0])
        chosen = np.arange(count) < first
    if what == "remove":
        table.remove(~chosen)
    elif chosen.any():
        table.replace(chosen, vectors(int(chosen.sum()), seed, kind))
