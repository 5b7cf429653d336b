"""Figures of exploration (EVOLvE, arXiv:2410.06238): regret and its curve, OptFrac, MinFrac, win rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from scipy.stats import ttest_rel

Floats = NDArray[np.float64]
SIGNIFICANT = 0.05
"""Level of the test behind a win, as in the paper."""


def cumulative_regret(gaps: Floats, pulls: Sequence[int]) -> Floats:
    """Σ over the steps so far of the pulled arm's gap; gaps `[steps, arms]` -> `[len(pulls)]`."""
    return np.cumsum(gaps[np.arange(len(pulls)), np.asarray(pulls, dtype=np.int64)])


def best_share(gaps: Floats, pulls: Sequence[int]) -> float:
    """OptFrac: the share of pulls of a best arm. Raises `ValueError` without pulls."""
    _check_pulls(pulls)
    return float(np.mean(gaps[np.arange(len(pulls)), np.asarray(pulls, dtype=np.int64)] <= 0.0))


def least_share(arms: int, pulls: Sequence[int]) -> float:
    """MinFrac: K · min_a N_a / t, 1 for even pulls, 0 where an arm was never tried (Krishnamurthy et al.,
    arXiv:2403.15371). Raises `ValueError` without pulls."""
    _check_pulls(pulls)
    return float(arms * np.bincount(pulls, minlength=arms).min() / len(pulls))


@dataclass(frozen=True, slots=True)
class RegretCurve:
    """f(T) = λ1 · log(T)^α / Δ_min + β·T + λ2. An explorer of value has β near 0 and a small α."""

    scale: float
    """λ1."""
    power: float
    """α."""
    slope: float
    """β, regret a step that no exploring will end."""
    offset: float
    """λ2."""
    gap: float
    """Δ_min, the least difference to the best arm."""
    error: float
    """Root of the mean squared difference to the curve that was fitted."""

    def __call__(self, steps: Floats) -> Floats:
        """The regret after `steps`, from 1."""
        return _regret_curve(steps, self.gap, self.scale, self.power, self.slope, self.offset)


MOST_POWER = 4.0
"""Bound on α: beyond it the first term is no logarithm any more."""


def fit_regret(regret: Sequence[float] | Floats, gap: float) -> RegretCurve:
    """The curve with the least squared error; regret: cumulative, after the steps 1, 2, … (mean over trials).

    λ1, α and β are at least 0. Raises `ValueError` for fewer than 5 steps, or a gap that is not positive.
    """
    values = np.asarray(regret, dtype=np.float64)
    if len(values) < 5 or not gap > 0.0:
        raise ValueError(f"a curve needs 5 steps and a gap above 0, not {len(values)} and {gap}")
    steps = np.arange(1.0, len(values) + 1)
    bounds = ([0.0, 0.0, 0.0, -np.inf], [np.inf, MOST_POWER, np.inf, np.inf])
    slope = max(float(values[-1] - values[0]) / len(values), 0.0)
    best: RegretCurve | None = None
    # The surface has several valleys: mostly linear, mostly logarithmic.
    for start in ((1e-3, 1.0, slope, 0.0), (gap, 1.0, 0.0, 0.0), (gap, 2.0, slope / 2, float(values[0]))):
        fitted, _ = curve_fit(
            lambda t, *p: _regret_curve(t, gap, *p), steps, values, p0=start, bounds=bounds, max_nfev=20_000
        )
        scale, power, slope_, offset = (float(each) for each in fitted)
        error = float(np.sqrt(np.mean((_regret_curve(steps, gap, *fitted) - values) ** 2)))
        if best is None or error < best.error:
            best = RegretCurve(scale, power, slope_, offset, gap, error)
    assert best is not None
    return best


def _regret_curve(
    steps: Floats, gap: float, scale: float, power: float, slope: float, offset: float
) -> Floats:
    return scale * np.log(steps) ** power / gap + slope * steps + offset


def win_rates(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Each agent's share of comparisons won; a comparison is with one other agent on one kind of task.

    scores: agent -> kind -> score of each trial, trial n the same instance for all. Won: the mean is higher
    and the paired t-test, two-sided, has p < `SIGNIFICANT`. Raises `ValueError` for other kinds or numbers of
    trials, and fewer than two agents or trials.
    """
    if len(scores) < 2:
        raise ValueError("a comparison needs two agents")
    sizes = [{kind: len(trials) for kind, trials in kinds.items()} for kinds in scores.values()]
    if any(size != sizes[0] for size in sizes) or not sizes[0] or min(sizes[0].values()) < 2:
        raise ValueError("all agents need the same kinds and trials, two of each at least")
    won = dict.fromkeys(scores, 0)
    for one, other in permutations(scores, 2):
        won[one] += sum(beats(scores[one][kind], scores[other][kind]) for kind in sizes[0])
    most = (len(scores) - 1) * len(sizes[0])
    return {agent: count / most for agent, count in won.items()}


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is significantly higher, trial by trial. A constant difference above 0 is."""
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    if np.ptp(difference) == 0.0:
        return bool(difference[0] > 0.0)
    return bool(difference.mean() > 0.0 and ttest_rel(one, other).pvalue < SIGNIFICANT)


def _check_pulls(pulls: Sequence[int]) -> None:
    if not len(pulls):
        raise ValueError("no pull was made")
