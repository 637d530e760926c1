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
    """What is done, *fitted* or kept, the *reason* for it, and the *basis* that it leaves.

    *captured* is the share of the variance of all images that *basis* keeps; None if they have no
    variance. *warnings* say what is not as wished.
    """

    fitted: bool
    reason: str
    basis: Basis
    captured: float | None
    warnings: tuple[str, ...] = ()


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
    if policy == "always":
        return _fitted("refit is set to always", statistics, wish, scaler)
    try:
        captured = current.basis.captured(statistics)
    except CannotFit as nothing:
        return Decision(False, f"nothing can be fitted: {nothing}", current.basis, None)
    if policy == "never":
        warnings = _shortfall(captured, wish)
        return Decision(False, "refit is set to never", current.basis, captured, warnings)
    return _automatic(current, captured, statistics, wish, scaler)


def _automatic(
    current: FittedModel, captured: float, statistics: Statistics, wish: Wish, scaler: str
) -> Decision:
    keeps = f"it keeps {captured:.2%} of the variance of all {statistics.count:,} images"
    basis, target = current.basis, wish.variance_target
    if current.scaler != scaler:
        reason = f"the scaler was {current.scaler} and is set to {scaler}"
        return _fitted(reason, statistics, wish, scaler)
    if wish.k is None and basis.k > wish.max_components:
        reason = f"the version has {basis.k} components, and {wish.max_components} are allowed"
        return _fitted(reason, statistics, wish, scaler)
    if wish.k is None and target is not None and captured >= target - ROUNDING:
        return Decision(False, f"{keeps}, the target is {target:.2%}", basis, captured)
    candidate = fit(statistics, wish, scaler)
    best = float(candidate.explained_variance_ratio.sum())
    if wish.k is not None and candidate.k != basis.k:
        reason = f"the version has {basis.k} components, and {candidate.k} are wanted"
        return Decision(True, reason, candidate, best, candidate.warnings)
    if candidate.variance_target_met or captured < best * (1 - LOSS):
        would = f"a new one of {candidate.k} components would keep {best:.2%}"
        less = f"the version keeps {captured:.2%} of the variance of all images"
        return Decision(True, f"{less}, {would}", candidate, best, candidate.warnings)
    reason = f"{keeps}, a new one would keep {best:.2%}"
    return Decision(False, reason, basis, captured, _shortfall(captured, wish))


def _fitted(reason: str, statistics: Statistics, wish: Wish, scaler: str) -> Decision:
    basis = fit(statistics, wish, scaler)
    kept = float(basis.explained_variance_ratio.sum())
    return Decision(True, reason, basis, kept, basis.warnings)


def _shortfall(captured: float, wish: Wish) -> tuple[str, ...]:
    target = wish.variance_target
    if wish.k is not None or target is None or captured >= target - ROUNDING:
        return ()
    return (f"the variance target {target:g} is not met: the kept version keeps {captured:.4f}",)
