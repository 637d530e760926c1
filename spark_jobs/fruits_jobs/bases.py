"""From statistics to a PCA basis: scaling, one eigendecomposition, k, and signs that never flip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fruits_jobs.statistics import Matrix, Statistics, Vector

# Cumulated shares reach 0.95 as 0.9499999999999998 when they should be equal.
ROUNDING = 1e-12


class CannotFit(ValueError):  # noqa: N818
    """There is no PCA of these features; the message says why and what to do."""


@dataclass(frozen=True)
class Wish:
    """How many components are wanted: *k* of them, or a *variance_target* with a cap."""

    k: int | None = None
    variance_target: float | None = None
    max_components: int = 512


@dataclass(frozen=True)
class Basis:
    """A fitted PCA: components of X are ``((X - mean) / scale) @ basis``.

    *mean* and *scale* are [D], *basis* [D, k], *eigenvalues* all D of them, descending, of the
    covariance of the scaled features; everything float64. *warnings* say what was not as wished.
    """

    mean: Vector
    scale: Vector
    basis: Matrix
    eigenvalues: Vector
    variance_target_met: bool | None
    warnings: tuple[str, ...]

    @property
    def k(self) -> int:
        """The number of components."""
        return int(self.basis.shape[1])

    @property
    def explained_variance_ratio(self) -> Vector:
        """The share of the total variance that each component explains, [k]."""
        ratio: Vector = self.eigenvalues[: self.k] / self.eigenvalues.sum()
        return ratio

    def captured(self, statistics: Statistics) -> float:
        """Return the share of the variance of all those rows that these components keep.

        That is 1 less the mean squared error of the features made from them again, over the mean
        squared distance from the rows' own mean, both scaled as this basis scales. What the rows'
        mean has moved since the fit counts as lost. CannotFit if the rows do not vary.
        """
        check_variance(statistics)
        covariance = statistics.covariance() / np.outer(self.scale, self.scale)
        kept = float(np.sum((covariance @ self.basis) * self.basis))
        drift = (statistics.mean - self.mean) / self.scale
        aside = drift - self.basis @ (self.basis.T @ drift)
        lost = float(aside @ aside) * statistics.count / (statistics.count - 1)
        return (kept - lost) / float(np.trace(covariance))

    def components(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the components, float32[N, k], of features [N, D]; computed in float64."""
        scaled = (X.astype(np.float64) - self.mean) / self.scale
        return np.ascontiguousarray(scaled @ self.basis, dtype=np.float32)


def fit(statistics: Statistics, wish: Wish, scaler: str = "none") -> Basis:
    """Return the PCA of the rows that *statistics* summarise; CannotFit if they have none.

    A k beyond the rank of the features, at most min(N - 1, D), is cut to it, with a warning.
    """
    check_variance(statistics)
    scale = scales(statistics, scaler)
    covariance = statistics.covariance() / np.outer(scale, scale)
    ascending, vectors = np.linalg.eigh(covariance)
    eigenvalues = np.clip(ascending[::-1], 0, None)
    k, met, warnings = choose_k(eigenvalues, rank_of(eigenvalues, statistics.count), wish)
    basis = with_fixed_signs(vectors[:, ::-1][:, :k])
    return Basis(statistics.mean, scale, basis, eigenvalues, met, tuple(warnings))


def check_variance(statistics: Statistics) -> None:
    """Raise CannotFit if there are fewer than two rows, or none that differs from the others."""
    if statistics.count < 2:
        raise CannotFit(
            f"a PCA needs at least 2 images, the features table has {statistics.count}:"
            " add images and run again"
        )
    if (statistics.low == statistics.high).all() or not statistics.scatter.any():
        raise CannotFit(
            f"all {statistics.count} images have the same features, so there is no variance to"
            " explain: add images that differ and run again"
        )


def rank_of(eigenvalues: Vector, count: int) -> int:
    """Return how many directions *count* rows vary in; the others' eigenvalues are rounding."""
    noise = eigenvalues[0] * len(eigenvalues) * np.finfo(np.float64).eps
    return max(1, min(count - 1, int((eigenvalues > noise).sum())))


def scales(statistics: Statistics, scaler: str) -> Vector:
    """Return what each centred feature is divided by, [D]; 1 for constant features.

    "standard" is the standard deviation with divisor N, as scikit-learn's StandardScaler has it;
    "minmax" is the range.
    """
    spread = statistics.high - statistics.low
    if scaler == "none":
        return np.ones_like(spread)
    constant = spread == 0
    if scaler == "standard":
        share = (statistics.count - 1) / statistics.count
        spread = np.sqrt(np.clip(np.diag(statistics.covariance()) * share, 0, None))
    # A spread that rounding took to 0 would make infinities.
    return np.where(constant | (spread == 0), 1.0, spread)


def choose_k(eigenvalues: Vector, rank: int, wish: Wish) -> tuple[int, bool | None, list[str]]:
    """Return k, whether the variance target is met (None without one), and warnings.

    *eigenvalues* are descending and all there are: shares are of the *total* variance.
    """
    if wish.k is not None:
        if wish.k <= rank:
            return wish.k, None, []
        return rank, None, [f"k was cut from {wish.k} to {rank}, the rank of the features"]
    target = wish.variance_target or 1.0
    kept = np.cumsum(eigenvalues) / eigenvalues.sum()
    needed = int(np.searchsorted(kept, target - ROUNDING)) + 1
    k = min(needed, rank, wish.max_components)
    if kept[k - 1] >= target - ROUNDING:
        return k, True, []
    warning = (
        f"the variance target {target:g} is not met: {k} components keep {kept[k - 1]:.4f};"
        f" {needed} would be needed, the cap is {min(rank, wish.max_components)}"
    )
    return k, False, [warning]


def with_fixed_signs(basis: Matrix) -> Matrix:
    """Return *basis* [D, k] with each column's coefficient of largest magnitude positive."""
    largest = np.argmax(np.abs(basis), axis=0)
    signs = np.sign(basis[largest, np.arange(basis.shape[1])])
    return basis * np.where(signs == 0, 1.0, signs)
