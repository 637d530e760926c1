"""How a manifest is cut: into tasks of about equal work, and into files of about equal size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Inference of one image takes as long as reading and decoding about this many bytes of a photo.
BYTES_PER_INFERENCE = 512 * 1024
LARGEST_TASK = 512  # in inferences: a few seconds, so that progress moves and a retry is cheap
SMALLEST_TASK = 32  # in inferences: below this, starting the task costs more than it balances
FILE_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True)
class RowRange:
    """Rows *start* (included) to *stop* (excluded) of a manifest."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def task_ranges(sizes: npt.NDArray[np.int64], cores: int) -> list[RowRange]:
    """Cut rows with the given *sizes* (bytes, int64[N]) into contiguous ranges, large ones first.

    Each task is half of a core's share of the work that is left, so the last ones are small and all
    cores end together, however unlike they or the images are ("guided self-scheduling",
    Polychronopoulos and Kuck 1987). No range is empty; together they cover every row once, in
    order.
    """
    done = np.cumsum(sizes + BYTES_PER_INFERENCE, dtype=np.float64)
    smallest, largest = (BYTES_PER_INFERENCE * n for n in (SMALLEST_TASK, LARGEST_TASK))
    ranges: list[RowRange] = []
    start, before = 0, 0.0
    while start < len(sizes):
        share = (done[-1] - before) / (2 * cores)
        share = min(max(share, smallest), largest)
        stop = max(start + 1, int(np.searchsorted(done, before + share, side="right")))
        ranges.append(RowRange(start, stop))
        start, before = stop, done[stop - 1]
    return ranges


def rows_per_file(rows: int, floats: int) -> int:
    """Return how many rows of *floats* float32 each make files of about 128 MB and equal size."""
    if not rows:
        return 1
    largest = max(1, FILE_BYTES // (4 * floats + 200))  # about 200 bytes for the other columns
    files = -(-rows // largest)
    return -(-rows // files)
