"""Count, sums and Gram matrix of features: additive, so that their covariance is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class NotFinite(ValueError):  # noqa: N818
    """Features hold NaN or infinity; *row* is the first such row."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} is not finite")
        self.row = row


@dataclass(frozen=True)
class Statistics:
    """Of N rows of D features: *count* N, *total* [D], *gram* X'X [D, D], *low* and *high* [D]."""

    count: int
    total: Vector
    gram: Matrix
    low: Vector
    high: Vector

    @classmethod
    def of(cls, X: npt.NDArray[np.float32]) -> Self:
        """Return the statistics of [N, D] features, N > 0, in float64; NotFinite on NaN."""
        finite = np.isfinite(X).all(axis=1)
        if not finite.all():
            raise NotFinite(int(np.argmin(finite)))
        exact = X.astype(np.float64)
        return cls(len(X), exact.sum(0), exact.T @ exact, exact.min(0), exact.max(0))

    def __add__(self, other: Self) -> Self:
        """Return the statistics of both sets of rows together."""
        return type(self)(
            self.count + other.count,
            self.total + other.total,
            self.gram + other.gram,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def mean(self) -> Vector:
        """The mean of each feature, [D]."""
        return self.total / self.count

    def covariance(self) -> Matrix:
        """Return the covariance [D, D] with divisor N - 1."""
        centred = self.gram - self.count * np.outer(self.mean, self.mean)
        return centred / (self.count - 1)
