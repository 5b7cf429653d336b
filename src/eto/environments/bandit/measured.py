"""Figures of an agent's trajectories on bandits, by task type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eto.environments.bandit.figures import (
    Floats,
    RegretCurve,
    best_share,
    cumulative_regret,
    fit_regret,
    least_share,
)
from eto.environments.bandit.games import Bandit
from eto.environments.bandit.suite import Bandits
from eto.types import Task, Trajectory

LEAST_STEPS = 30
"""Of an episode to which a curve is fitted: fewer say nothing of its form."""


@dataclass(frozen=True, eq=False)
class Exploration:
    """How an agent explored bandits of one type."""

    kind: str
    regret: Floats
    """`[trials, steps]`, cumulative expected regret."""
    best: Floats
    """`[trials]`, OptFrac."""
    least: Floats
    """`[trials]`, MinFrac."""
    invalid: Floats
    """`[trials]`, share of answers that named no arm."""
    gap: float
    """Δ_min: mean over trials of the least difference to the best arm."""
    reward: Floats
    """`[trials]`, as the suite counts it, in [0, 1]."""

    def curve(self) -> RegretCurve | None:
        """Of the mean regret; None for episodes shorter than `LEAST_STEPS`."""
        mean = self.regret.mean(axis=0)
        return fit_regret(mean, self.gap) if len(mean) >= LEAST_STEPS else None


def explored(kind: str, episodes: Sequence[tuple[Bandit, Sequence[int], int]]) -> Exploration:
    """Of (instance, arms pulled, answers that named none) each, cut to the shortest.

    Raises `ValueError` without episodes, or where one has no pull.
    """
    if not episodes or not all(pulls for _, pulls, _ in episodes):
        raise ValueError(f"{kind} has no pull to measure")
    steps = min(len(pulls) for _, pulls, _ in episodes)
    return Exploration(
        kind,
        regret=np.stack([cumulative_regret(bandit.gaps, pulls)[:steps] for bandit, pulls, _ in episodes]),
        best=np.array([best_share(bandit.gaps, pulls) for bandit, pulls, _ in episodes]),
        least=np.array([least_share(bandit.arms, pulls) for bandit, pulls, _ in episodes]),
        invalid=np.array([count / len(pulls) for _, pulls, count in episodes]),
        gap=float(np.mean([bandit.least_gap for bandit, _, _ in episodes])),
        reward=np.array([bandit.reward(list(pulls)) for bandit, pulls, _ in episodes]),
    )


def measured(suite: Bandits, trajectories: Iterable[Trajectory]) -> dict[str, Exploration]:
    """Task type -> figures of its trajectories that did not fail, in their order. Raises `ValueError` where
    one has no turn."""
    episodes: dict[str, list[tuple[Bandit, Sequence[int], int]]] = {}
    for each in trajectories:
        if not each.failed:
            bandit = suite.bandit(each.task)
            pulls, invalid = pulled(suite, each.task, bandit, each.actions)
            episodes.setdefault(each.task.kind, []).append((bandit, pulls, invalid))
    return {kind: explored(kind, group) for kind, group in episodes.items()}


def pulled(suite: Bandits, task: Task, bandit: Bandit, actions: Iterable[str]) -> tuple[list[int], int]:
    """The arms that `actions` pull, and how many of them name none."""
    named = [suite.arm(task, action) for action in actions]
    pulls = [int(bandit.stand_ins[step]) if arm is None else arm for step, arm in enumerate(named)]
    return pulls, named.count(None)
