"""An ensemble of estimates: what actions are worth at best and at worst, and where it is unsure.

OPARL (arXiv 2312.15965) explores by the highest of K critics and executes by the lowest. The critics here are
linear in features of state and action, with a randomised prior each, so that they differ where nothing was
seen:

    w_k = w0_k + (X' B_k X + ridge I)^-1 X' B_k (y - m - X w0_k),   w0_k ~ N(0, prior^2 I)

X features, y rewards, m their mean, B_k how often the bootstrap drew the episode of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eto.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """K linear estimates."""

    weights: Floats
    """`[K, features]`."""
    mean: float
    """The estimate where all features are 0."""

    def estimates(self, points: Floats) -> Floats:
        """`[K, n]` of `points` `[n, features]`."""
        return self.mean + self.weights @ points.T


def fit_ensemble(
    points: Floats,
    rewards: Floats,
    episodes: Sequence[int],
    *,
    heads: int,
    ridge: float,
    prior: float,
    seed: int,
) -> Ensemble:
    """K estimates of `rewards` `[n]` from `points` `[n, features]`, each of a bootstrap of the episodes.

    episodes: `[n]` the number, from 0, of each row's episode: its rows are drawn together. Raises
    `InputError` without rows.
    """
    if not len(points):
        raise InputError("an ensemble has no turns to learn from", where="episodes", hint="play more tasks")
    draw = np.random.default_rng(seed)
    owner, mean = np.asarray(episodes), float(np.mean(rewards))
    count, places = int(owner.max()) + 1, points.shape[1]
    fitted = []
    for _ in range(heads):
        start = draw.normal(0.0, prior, places)
        drawn = np.bincount(draw.integers(0, count, count), minlength=count)[owner]
        root = np.sqrt(drawn)
        fitted.append(start + _ridge(points * root[:, None], root * (rewards - mean - points @ start), ridge))
    return Ensemble(np.array(fitted), mean)


def _ridge(points: Floats, targets: Floats, ridge: float) -> Floats:
    """(X'X + ridge I)^-1 X'y, or X' (XX' + ridge I)^-1 y, which is the same, where X has fewer rows."""
    rows, places = points.shape
    if rows < places:
        return np.asarray(points.T @ np.linalg.solve(points @ points.T + ridge * np.eye(rows), targets))
    return np.asarray(np.linalg.solve(points.T @ points + ridge * np.eye(places), points.T @ targets))


def most_disputed(estimates: Floats) -> int:
    """Of the actions of `estimates` `[K, n]` the one with the largest standard deviation over K; the first of
    equals."""
    return int(np.argmax(estimates.std(axis=0)))


def optimistic(estimates: Floats, deviations: float | None = None) -> Floats:
    """`[n]` the highest of `[K, n]`, as in the paper; or mean + deviations * standard deviation."""
    if deviations is None:
        return np.asarray(estimates.max(axis=0))
    return np.asarray(estimates.mean(axis=0) + deviations * estimates.std(axis=0))


def pessimistic(estimates: Floats, deviations: float | None = None) -> Floats:
    """`[n]` the lowest of `[K, n]`, as in the paper; or mean - deviations * standard deviation."""
    return -optimistic(-estimates, deviations)
