"""Count, sum and centred Gram matrix of features: additive, so that their covariance is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
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


class WidthsDiffer(ValueError):  # noqa: N818
    """Features of different lengths, *one* and *other*, are not of one network."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(
            f"features of length {one} and of length {other} carry the name of one feature model:"
            " see which files of the features table have which, and remove the wrong ones"
        )
        self.one, self.other = one, other


@dataclass(frozen=True)
class Statistics:
    """Of N rows of D features: *count* N, *total* [D], *scatter* [D, D], *low* and *high* [D].

    *scatter* is the Gram matrix of the rows less their mean. X'X itself would do on paper; in
    floating point its difference to the mean's part loses every digit of features that lie far
    from zero and close together.
    """

    count: int
    total: Vector
    scatter: Matrix
    low: Vector
    high: Vector

    @classmethod
    def of(cls, X: npt.NDArray[np.float32]) -> Self:
        """Return the statistics of [N, D] features, N > 0, in float64; NotFinite on NaN."""
        return cls.of_parts([X])

    @classmethod
    def of_parts(cls, parts: Iterable[npt.NDArray[np.float32]]) -> Self:
        """Return the statistics of all rows of at least one [N, D] part, each with N > 0.

        One matrix product a part, no work per row. NotFinite has the row's index in its part.
        """
        remaining = iter(parts)
        first = next(remaining)
        # Near the mean of everything, which is known only at the end.
        pivot = first.mean(axis=0, dtype=np.float64)
        width = len(pivot)
        count, shifted, gram = 0, np.zeros(width), np.zeros((width, width))
        low, high = np.full(width, np.inf), np.full(width, -np.inf)
        for X in chain([first], remaining):
            if X.shape[1] != width:
                raise WidthsDiffer(width, X.shape[1])
            exact = X.astype(np.float64)
            exact -= pivot
            total = exact.sum(axis=0)
            if not np.isfinite(total).all():  # no sum of float32 overflows by itself
                raise NotFinite(int(np.argmin(np.isfinite(X).all(axis=1))))
            count += len(X)
            shifted += total
            gram += exact.T @ exact
            low, high = np.minimum(low, X.min(axis=0)), np.maximum(high, X.max(axis=0))
        gram -= np.outer(shifted, shifted / count)
        return cls(count, shifted + count * pivot, gram, low, high)

    def __add__(self, other: Self) -> Self:
        """Return the statistics of both sets of rows together."""
        if self.width != other.width:
            raise WidthsDiffer(self.width, other.width)
        count = self.count + other.count
        apart = self.mean - other.mean
        scatter = np.outer(apart, apart * (self.count * other.count / count))
        scatter += self.scatter
        scatter += other.scatter
        return type(self)(
            count,
            self.total + other.total,
            scatter,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...]]:
        """Pickle without what symmetry tells: half the bytes on their way between processes."""
        packed = (self.count, self.total, self.triangle(), self.low, self.high)
        return type(self).of_triangle, packed

    @classmethod
    def of_triangle(
        cls, count: int, total: Vector, triangle: Vector, low: Vector, high: Vector
    ) -> Self:
        """Return the statistics whose scatter matrix has that upper triangle, row by row.

        ValueError if it has not the D(D + 1)/2 values of D features.
        """
        width = len(total)
        if len(triangle) != width * (width + 1) // 2:
            raise ValueError(f"{len(triangle)} values are no triangle of width {width}")
        scatter = np.empty((width, width))
        start = 0
        for index in range(width):
            stop = start + width - index
            scatter[index, index:] = scatter[index:, index] = triangle[start:stop]
            start = stop
        return cls(count, total, scatter, low, high)

    def triangle(self) -> Vector:
        """Return the upper triangle of the scatter matrix, row by row, [D(D + 1)/2]."""
        return np.concatenate([row[index:] for index, row in enumerate(self.scatter)])

    @property
    def width(self) -> int:
        """The number of features, D."""
        return len(self.total)

    @property
    def mean(self) -> Vector:
        """The mean of each feature, [D]."""
        return self.total / self.count

    def covariance(self) -> Matrix:
        """Return the covariance [D, D] with divisor N - 1."""
        return self.scatter / (self.count - 1)
