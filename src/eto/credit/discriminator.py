"""Step rewards by a discriminator (GAIL, arXiv 1606.03476; StepAgent-Inverse, arXiv 2411.03817).

D(s, a) = sigma(logit) is the probability that the agent, not the expert, chose a in s. A step is worth
r(s, a) = -log D(s, a): much where it passes for the expert's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from eto.credit.contrast import shared_turns
from eto.credit.monte_carlo import Branch, sides
from eto.types import Pair, Trajectory


@dataclass(frozen=True, slots=True)
class Judged:
    """A branch with what the discriminator says of its first own action and of the expert's there."""

    branch: Branch
    logit: float
    """Of the agent's action."""
    expert_logit: float
    held_out: bool
    """Whether the discriminator was trained without this expert's trajectory."""

    @property
    def reward(self) -> float:
        """Of the agent's action."""
        return step_reward(self.logit)


def step_reward(logit: float) -> float:
    """-log sigma(logit), in nats, above 0; about -logit where D is near 0."""
    return max(-logit, 0.0) + math.log1p(math.exp(-abs(logit)))


def accuracy(judged: Iterable[Judged]) -> float | None:
    """How often the discriminator is right about the two sides of the branches whose actions differ, each
    side once a branch: 0.5 by guessing, or by one answer for all. A logit of 0 is right half the time. None
    without such a branch."""
    differing = [each for each in judged if each.branch.differs]
    if not differing:
        return None
    right = sum(_right(each.logit, True) + _right(each.expert_logit, False) for each in differing)
    return right / (2 * len(differing))


def _right(logit: float, of_agent: bool) -> float:
    return 0.5 if logit == 0 else float((logit > 0) == of_agent)


def best_over_worst(judged: Iterable[Judged], min_gap: float = 0.0) -> list[Pair]:
    """For each state the agent's action of the highest reward over that of the lowest, where these are more
    than `min_gap` nats apart; loss on these two alone. The first of equals counts.

    The reward of a pair's side is 1 - D(s, a), which orders actions as r does and lies in [0, 1].
    """
    by_state: dict[tuple[str, int], list[Judged]] = {}
    for each in judged:
        by_state.setdefault((each.branch.expert.task.id, each.branch.at), []).append(each)
    pairs = []
    for candidates in by_state.values():
        best, worst = (choose(candidates, key=lambda each: each.reward) for choose in (max, min))
        if best.reward - worst.reward > min_gap:
            chosen, rejected = (_own_side(each) for each in (best, worst))
            pairs.append(Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected), "action"))
    return pairs


def _own_side(judged: Judged) -> Trajectory:
    passes = math.exp(-step_reward(-judged.logit))
    return replace(sides(judged.branch, 1)[1], reward=passes, success=None, score=None)
