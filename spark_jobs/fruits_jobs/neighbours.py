"""What a reduction costs in a person's terms: how often the nearest images have the same label.

The images of a label are mostly one series: a fruit that turns, a camera that moves. A random
hold-out would find the frame before and after each image and say nothing. So a quarter of each
series at a time is looked up in that half of it which lies farthest away, and in those of the other
labels.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 5
BLOCKS = 4
FEWEST = 2 * BLOCKS  # images of a label: below this, a quarter is not a block
ROWS_AT_ONCE = 1024

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Series:
    """Images as places in the series of their labels: *label* int[N], *place* [N] from 0 to 1."""

    label: npt.NDArray[np.int64]
    place: npt.NDArray[np.float64]

    @classmethod
    def of(cls, labels: list[str], keys: list[str]) -> Series:
        """Order the images of each label by key, numbers in it as numbers.

        Images of labels with fewer than 8 of them get the label -1: they are not looked up.
        """
        counts = Counter(labels)
        numbers = {name: number for number, name in enumerate(sorted(counts))}
        label = np.array([numbers[x] if counts[x] >= FEWEST else -1 for x in labels], np.int64)
        place = np.zeros(len(labels))
        order = sorted(range(len(labels)), key=lambda i: (labels[i], _natural(keys[i])))
        seen: Counter[str] = Counter()
        for index in order:
            place[index] = seen[labels[index]] / counts[labels[index]]
            seen[labels[index]] += 1
        return cls(label, place)

    @property
    def fits(self) -> bool:
        """Whether there are two labels to tell apart."""
        return len(set(self.label.tolist()) - {-1}) >= 2

    def fold(self, block: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the indices of the images of a *block* (0 to 3), and of those to look among."""
        known = self.label >= 0
        looked_up = known & ((self.place * BLOCKS).astype(int) == block)
        middle = (block + 0.5) / BLOCKS
        away = np.abs(self.place - middle)
        among = known & (np.minimum(away, 1 - away) > 1 / BLOCKS)
        return np.flatnonzero(looked_up), np.flatnonzero(among)


def accuracy(X: Floats, series: Series) -> float:
    """Return the share of images whose 5 nearest (Euclidean) mostly have their label.

    *X* is float32[N, D], a row for each image of *series*, which has to have two labels (`fits`).
    """
    right = total = 0
    for block in range(BLOCKS):
        looked_up, among = series.fold(block)
        for start in range(0, len(looked_up), ROWS_AT_ONCE):
            rows = looked_up[start : start + ROWS_AT_ONCE]
            votes = series.label[among[_nearest(X[rows], X[among])]]
            right += int((_majority(votes) == series.label[rows]).sum())
            total += len(rows)
    return right / total


def _nearest(X: Floats, among: Floats) -> npt.NDArray[np.int64]:
    """Return the indices of the nearest rows of *among*, the nearest first, int64[N, 5]."""
    centre = among.mean(axis=0)
    X, among = X - centre, among - centre
    distances = np.square(among).sum(axis=1) - 2 * (X @ among.T)
    count = min(NEIGHBOURS, len(among))
    nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1)
    return np.take_along_axis(nearest, order, axis=1)


def _majority(votes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the most frequent value of each row; of equals the one that comes first."""
    counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
    winners: npt.NDArray[np.int64] = votes[np.arange(len(votes)), counts.argmax(axis=1)]
    return winners


def _natural(key: str) -> list[tuple[int, int | str]]:
    # Every second part is a number to `int`. Other characters call themselves digits, like "²".
    parts = re.split(r"(\d+)", key)
    return [(1, int(part)) if index % 2 else (0, part) for index, part in enumerate(parts)]
