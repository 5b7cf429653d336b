"""Bandit algorithms: what the agent is measured against, cloned from, and guided by.

UCB (Auer et al. 2002, doi:10.1023/A:1013689704352) and LinUCB with a model for each arm (Li et al. 2010,
arXiv:1003.0146, algorithm 1), with the values of EVOLvE's code (arXiv:2410.06238). An oracle holds the state
of one episode. Of equal indices the lowest arm is taken, so that an episode can be replayed.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.5
"""Weight of exploration in EVOLvE's code, of UCB and LinUCB alike."""

Features = NDArray[np.float64] | None
"""`[d]` of who is served in this step; None where nobody is."""


class Terms(NamedTuple):
    """What an index is the sum of, for one arm."""

    value: float
    """What the arm has paid: the exploitation value."""
    bonus: float
    """What is not known about it: the exploration bonus; infinite where it was never pulled."""


class Oracle(Protocol):
    """An algorithm in the course of one episode."""

    def choose(self, features: Features) -> int:
        """The arm to pull next."""
        ...

    def learn(self, features: Features, arm: int, reward: float) -> None:
        """Take in what an arm paid."""
        ...


class Ucb:
    """Each arm once, then argmax of mean_a + sqrt(alpha · ln t / N_a), with t pulls so far, N_a of the arm.

    alpha 0 is greedy, with no bonus at all.
    """

    def __init__(self, arms: int, alpha: float = ALPHA) -> None:
        self.alpha = alpha
        self.pulls, self.paid = [0] * arms, [0.0] * arms

    def choose(self, features: Features = None) -> int:
        return _highest([term.value + term.bonus for term in self.terms()])

    def learn(self, features: Features, arm: int, reward: float) -> None:
        self.pulls[arm] += 1
        self.paid[arm] += reward

    def terms(self, features: Features = None) -> list[Terms]:
        """Value and bonus of each arm."""
        log_t = math.log(max(sum(self.pulls), 1))
        return [
            Terms(paid / n, math.sqrt(self.alpha * log_t / n)) if n else Terms(0.0, math.inf)
            for n, paid in zip(self.pulls, self.paid, strict=True)
        ]


class LinUcb:
    """A ridge regression an arm: argmax of θ_aᵀx + alpha · sqrt(xᵀ A_a⁻¹ x) with θ_a = A_a⁻¹ b_a.

    A_a begins as the identity, b_a as 0; a pull adds xxᵀ and r·x. A_a⁻¹ is kept by Sherman and Morrison's
    formula. alpha 0 is greedy, with no bonus at all.
    """

    def __init__(self, arms: int, dimensions: int, alpha: float = ALPHA) -> None:
        self.alpha = alpha
        self._inverse = np.stack([np.eye(dimensions)] * arms)
        self._b = np.zeros((arms, dimensions))

    def choose(self, features: Features) -> int:
        return _highest([term.value + term.bonus for term in self.terms(features)])

    def learn(self, features: Features, arm: int, reward: float) -> None:
        assert features is not None, "LinUCB without features"
        inverse = self._inverse[arm]
        ahead = inverse @ features
        self._inverse[arm] = inverse - np.outer(ahead, ahead) / (1.0 + features @ ahead)
        self._b[arm] += reward * features

    def terms(self, features: Features) -> list[Terms]:
        """Value and bonus of each arm for `features`."""
        assert features is not None, "LinUCB without features"
        values = np.einsum("kij,kj,i->k", self._inverse, self._b, features)
        spreads = np.einsum("i,kij,j->k", features, self._inverse, features)
        bonuses = self.alpha * np.sqrt(np.maximum(spreads, 0.0))
        return [Terms(float(v), float(b)) for v, b in zip(values, bonuses, strict=True)]


class Uniform:
    """Any arm, with equal chances, whatever was paid: the floor of each table."""

    def __init__(self, arms: int, seed: int) -> None:
        self._arms, self._draw = arms, np.random.default_rng(seed)

    def choose(self, features: Features = None) -> int:
        return int(self._draw.integers(self._arms))

    def learn(self, features: Features, arm: int, reward: float) -> None:
        """Nothing is learnt."""


def oracle(arms: int, dimensions: int, *, alpha: float = ALPHA) -> Ucb | LinUcb:
    """UCB, or where users have features LinUCB; `dimensions`: of the features, 0 where there are none."""
    return LinUcb(arms, dimensions, alpha) if dimensions else Ucb(arms, alpha)


def _highest(indices: list[float]) -> int:
    """The first of the highest, to 9 digits: rounding must not decide between equal arms."""
    best = max(indices)
    return next(
        arm
        for arm, index in enumerate(indices)
        if math.isinf(index) or index >= best - 1e-9 * max(abs(best), 1.0)
    )
