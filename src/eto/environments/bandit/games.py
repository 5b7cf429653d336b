"""Bandits as numbers: what each arm is worth and what it pays at each step, drawn beforehand by seed.

So replayed pulls pay the same, and agents that are compared meet the same luck (common random numbers).
The problems are those of EVOLvE (arXiv:2410.06238, BanditBench).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eto.environments.bandit.oracles import Features, Oracle

Floats = NDArray[np.float64]

GAPS = {"easy": 0.5, "hard": 0.2}
"""Bernoulli: the best arm's mean less the others'."""
SPREADS = {"easy": 1.0, "hard": 3.0}
"""Gaussian: standard deviation both of the arms' means around 0 and of what an arm pays around its mean."""
DIGITS = 3
"""Decimals of what is paid: the algorithms see what the agent reads."""


@dataclass(frozen=True, eq=False)
class Bandit:
    """One episode's worth of an instance."""

    means: Floats
    """`[steps, arms]`, the expected reward."""
    paid: Floats
    """`[steps, arms]`, what a pull in that step pays."""
    stand_ins: NDArray[np.int64]
    """`[steps]`, the arm that is pulled in place of an answer that names none."""
    features: Floats | None = None
    """`[steps, d]`, of the user who is served; None: nobody is."""

    @property
    def horizon(self) -> int:
        return self.means.shape[0]

    @property
    def arms(self) -> int:
        return self.means.shape[1]

    @property
    def dimensions(self) -> int:
        """Of the features; 0 where there are none."""
        return 0 if self.features is None else self.features.shape[1]

    def user(self, step: int) -> Features:
        """Features in a step, from 0."""
        return None if self.features is None else self.features[step]

    @cached_property
    def gaps(self) -> Floats:
        """`[steps, arms]`, expected regret of a pull: the best arm's mean less the arm's."""
        return self.means.max(axis=1, keepdims=True) - self.means

    @property
    def least_gap(self) -> float:
        """Δ_min: the least regret above 0 of a pull; 0 where all arms are equal."""
        positive = self.gaps[self.gaps > 1e-12]
        return float(positive.min()) if positive.size else 0.0

    @cached_property
    def _stakes(self) -> float:
        return float(self.gaps.max(axis=1).sum())

    def reward(self, pulls: NDArray[np.int64] | list[int]) -> float:
        """1 − regret / (regret of the worst arms), in [0, 1]; a step not played yet counts as its worst arm.

        It never falls in the course of an episode. Where all arms are equal: the share that was played.
        """
        steps = np.arange(len(pulls))
        gaps = self.gaps[: len(pulls)]
        if self._stakes <= 0.0:
            return len(pulls) / self.horizon
        saved = float((gaps.max(axis=1) - gaps[steps, np.asarray(pulls, dtype=np.int64)]).sum())
        return min(max(saved / self._stakes, 0.0), 1.0)


def bernoulli(arms: int, difficulty: str, horizon: int, draw: np.random.Generator) -> Bandit:
    """All arms pay 1 with the chance 0.5 − Δ/2, but for one, with 0.5 + Δ/2; Δ from `GAPS`."""
    gap = GAPS[difficulty]
    means = np.full(arms, 0.5 - gap / 2)
    means[draw.integers(arms)] = 0.5 + gap / 2
    paid = (draw.random((horizon, arms)) < means).astype(np.float64)
    return _bandit(means, paid, draw)


def gaussian(arms: int, difficulty: str, horizon: int, draw: np.random.Generator) -> Bandit:
    """Means from N(0, σ²), what is paid from N(mean, σ²); σ from `SPREADS`."""
    spread = SPREADS[difficulty]
    means = draw.normal(0.0, spread, arms)
    paid = draw.normal(means, spread, (horizon, arms)).round(DIGITS)
    return _bandit(means, paid, draw)


def contextual(table: Floats, features: Floats, horizon: int, draw: np.random.Generator) -> Bandit:
    """A user a step, drawn with replacement; a pull pays what the table says, without noise.

    table `[users, arms]`, features `[users, d]`.
    """
    users = draw.integers(len(table), size=horizon)
    means = table[users]
    stand_ins = draw.integers(table.shape[1], size=horizon)
    return Bandit(means, means, stand_ins, features[users])


def played(bandit: Bandit, oracle: Oracle) -> list[int]:
    """The arms that `oracle` pulls in an episode."""
    pulls = []
    for step in range(bandit.horizon):
        user = bandit.user(step)
        arm = oracle.choose(user)
        oracle.learn(user, arm, float(bandit.paid[step, arm]))
        pulls.append(arm)
    return pulls


def _bandit(means: Floats, paid: Floats, draw: np.random.Generator) -> Bandit:
    every_step = np.broadcast_to(means, paid.shape)
    return Bandit(every_step, paid, draw.integers(means.size, size=len(paid)))
