"""How a manifest is cut: into tasks of about equal work, and into files of about equal size."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

# Inference of one image takes as long as reading and decoding about this many bytes of a photo.
BYTES_PER_INFERENCE = 64 * 1024
LARGEST_TASK = 512  # in inferences: a few seconds, so that progress moves and a retry is cheap
SMALLEST_TASK = 64  # images: below this, starting the task costs more than its balance gains
TASKS_PER_CORE = 4
FILE_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True)
class RowRange:
    """Rows *start* (included) to *stop* (excluded) of a manifest."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def task_ranges(sizes: npt.NDArray[np.int64], cores: int) -> list[RowRange]:
    """Cut rows with the given *sizes* (bytes, int64[N]) into contiguous ranges of similar work.

    No range is empty and together they cover every row exactly once, in order.
    """
    if not len(sizes):
        return []
    work = np.cumsum(sizes + BYTES_PER_INFERENCE, dtype=np.float64)
    for_balance = min(TASKS_PER_CORE * cores, -(-len(sizes) // SMALLEST_TASK))
    for_progress = -(-int(work[-1]) // (BYTES_PER_INFERENCE * LARGEST_TASK))
    count = min(len(sizes), max(for_balance, for_progress))
    shares = work[-1] * np.arange(1, count) / count
    cuts = np.unique(np.searchsorted(work, shares) + 1)
    edges = [0, *(int(cut) for cut in cuts if cut < len(sizes)), len(sizes)]
    return [RowRange(start, stop) for start, stop in pairwise(edges)]


def rows_per_file(rows: int, floats: int) -> int:
    """Return how many rows of *floats* float32 each make files of about 128 MB and equal size."""
    if not rows:
        return 1
    largest = max(1, FILE_BYTES // (4 * floats + 200))  # about 200 bytes for the other columns
    files = -(-rows // largest)
    return -(-rows // files)
