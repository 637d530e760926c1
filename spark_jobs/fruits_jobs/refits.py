"""Whether a day's images need a new basis, or the current one still says enough about all."""

from __future__ import annotations

from dataclasses import dataclass

from fruits_jobs.bases import ROUNDING, Basis, CannotFit, Wish, fit
from fruits_jobs.pca_models import FittedModel
from fruits_jobs.statistics import Statistics

# Without a variance target to hold it to, the current basis may keep this much less than a new one
# of the same size would, as a share of what that one keeps.
LOSS = 0.01


@dataclass(frozen=True)
class Decision:
    """What is done and the *reason* for it: *kept* is the version that stays, None for a new one.

    *basis* is the kept one or the new one, *captured* the share of the variance of all images that
    it keeps; None if they have no variance. *warnings* say what is not as wished.
    """

    reason: str
    basis: Basis
    captured: float | None
    warnings: tuple[str, ...] = ()
    kept: FittedModel | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is a new version."""
        return self.kept is None


def decide(
    policy: str, current: FittedModel | None, statistics: Statistics, wish: Wish, scaler: str
) -> Decision:
    """Return what the *policy*, always, never or auto, makes of all images' *statistics*.

    CannotFit if there is nothing to keep and nothing to fit.
    """
    if current is None:
        return _fitted("these features have no version yet", statistics, wish, scaler)
    if len(current.basis.mean) != statistics.width:
        return _fitted("the features have another length", statistics, wish, scaler)
    try:
        if policy == "always":
            return _fitted("refit is set to always", statistics, wish, scaler)
        captured = current.basis.captured(statistics)
    except CannotFit as nothing:
        return Decision(f"nothing can be fitted: {nothing}", current.basis, None, kept=current)
    if policy == "never":
        return _kept("refit is set to never", current, captured, wish)
    return _automatic(current, captured, statistics, wish, scaler)


def _automatic(
    current: FittedModel, captured: float, statistics: Statistics, wish: Wish, scaler: str
) -> Decision:
    basis = current.basis
    if current.scaler != scaler:
        reason = f"the scaler was {current.scaler} and is set to {scaler}"
        return _fitted(reason, statistics, wish, scaler)
    if wish.k is not None:
        return _with_fixed_k(current, captured, statistics, wish, scaler)
    if basis.k > wish.max_components:
        reason = f"the version has {basis.k} components, and {wish.max_components} are allowed"
        return _fitted(reason, statistics, wish, scaler)
    return _with_target(current, captured, statistics, wish, scaler)


def _with_fixed_k(
    current: FittedModel, captured: float, statistics: Statistics, wish: Wish, scaler: str
) -> Decision:
    candidate = fit(statistics, wish, scaler)
    if candidate.k != current.basis.k:
        reason = f"the version has {current.basis.k} components, and {candidate.k} are wanted"
        return _new(reason, candidate)
    return _better(current, captured, candidate, statistics, wish)


def _with_target(
    current: FittedModel, captured: float, statistics: Statistics, wish: Wish, scaler: str
) -> Decision:
    target = wish.variance_target or 1.0
    met = captured >= target - ROUNDING
    made_for = current.variance_target
    if met and made_for is not None and made_for <= target:
        reason = f"{_keeps(captured, statistics)}, the target is {target:.2%}"
        return _kept(reason, current, captured, wish)
    candidate = fit(statistics, wish, scaler)
    if not met:
        return _better(current, captured, candidate, statistics, wish)
    if candidate.k < current.basis.k:
        reason = (
            f"the version has {current.basis.k} components, and the target, now {target:.2%},"
            f" needs {candidate.k}"
        )
        return _new(reason, candidate)
    reason = f"{_keeps(captured, statistics)}, the target is {target:.2%}"
    return _kept(reason, current, captured, wish)


def _better(
    current: FittedModel, captured: float, candidate: Basis, statistics: Statistics, wish: Wish
) -> Decision:
    """Keep the version, unless *candidate* meets a target that it misses, or keeps much more."""
    best = float(candidate.explained_variance_ratio.sum())
    if candidate.variance_target_met or captured < best * (1 - LOSS):
        would = f"a new one of {candidate.k} components would keep {best:.2%}"
        less = f"the version keeps {captured:.2%} of the variance of all images"
        return _new(f"{less}, {would}", candidate)
    reason = f"{_keeps(captured, statistics)}, a new one would keep {best:.2%}"
    return _kept(reason, current, captured, wish)


def _fitted(reason: str, statistics: Statistics, wish: Wish, scaler: str) -> Decision:
    return _new(reason, fit(statistics, wish, scaler))


def _new(reason: str, basis: Basis) -> Decision:
    return Decision(reason, basis, float(basis.explained_variance_ratio.sum()), basis.warnings)


def _kept(reason: str, current: FittedModel, captured: float, wish: Wish) -> Decision:
    return Decision(reason, current.basis, captured, _shortfall(captured, wish), current)


def _keeps(captured: float, statistics: Statistics) -> str:
    return f"it keeps {captured:.2%} of the variance of all {statistics.count:,} images"


def _shortfall(captured: float, wish: Wish) -> tuple[str, ...]:
    target = wish.variance_target
    if wish.k is not None or target is None or captured >= target - ROUNDING:
        return ()
    return (f"the variance target {target:g} is not met: the kept version keeps {captured:.4f}",)
