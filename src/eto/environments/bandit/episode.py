"""One episode of a bandit: answers in, what the arms paid out, in the form the agent is to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from eto.environments.bandit import prompts
from eto.environments.bandit.games import Bandit
from eto.environments.bandit.kinds import Kind
from eto.environments.bandit.oracles import oracle
from eto.environments.toolkit.suite import EpisodeEnvironment
from eto.protocols import Step
from eto.types import Task


class Rules(Protocol):
    """What an episode needs to know of its suite."""

    kinds: Mapping[str, Kind]
    context: prompts.Context
    alpha: float
    success: float

    def bandit(self, task: Task) -> Bandit:
        """The instance."""
        ...

    def arms(self, kind: Kind) -> tuple[str, ...]:
        """Names of the arms."""
        ...

    def arm(self, task: Task, action: str) -> int | None:
        """The arm that an answer names."""
        ...


class BanditEnvironment(EpisodeEnvironment):
    """One bandit after another.

    An answer that names no arm pulls one at random, as in the paper, and the episode is no success any more.
    """

    def __init__(self, suite: Rules) -> None:
        self._suite = suite
        self.afresh = suite.context != "raw"
        """Whether an observation says all, so that past turns are not read any more."""

    def reset(self, task: Task) -> str:
        """The first question, behind a summary where there is one."""
        self._task = task
        self._bandit = self._suite.bandit(task)
        kind = self._suite.kinds[task.kind]
        self._scene, self._arms = kind.scene, self._suite.arms(kind)
        self._pulls: list[int] = []
        self._total, self._is_valid = 0.0, True
        self._times, self._paid = [0] * self._bandit.arms, [0.0] * self._bandit.arms
        self._guide = oracle(self._bandit.arms, self._bandit.dimensions, alpha=self._suite.alpha)
        self._last = Step(self._asked(), 0.0, terminated=False, success=False, score=0.0)
        return self._last.observation

    def _act(self, action: str) -> Step:
        step, bandit = len(self._pulls), self._bandit
        named = self._suite.arm(self._task, action)
        arm = int(bandit.stand_ins[step]) if named is None else named
        paid = float(bandit.paid[step, arm])
        self._is_valid &= named is not None
        self._pulls.append(arm)
        self._total += paid
        self._times[arm] += 1
        self._paid[arm] += paid
        if self._suite.context == "guided":
            self._guide.learn(bandit.user(step), arm, paid)
        reward, ended = bandit.reward(self._pulls), step + 1 == bandit.horizon
        said = prompts.outcome(self._arms[arm], paid, named is None)
        if not ended:
            said = self._answered(said, named is None)
        won = ended and self._is_valid and reward >= self._suite.success
        return Step(said, reward, terminated=ended, success=won, score=self._total, afresh=self.afresh)

    def close(self) -> None:
        self._last = None

    def _answered(self, outcome: str, is_stand_in: bool) -> str:
        """What the agent reads before its next answer."""
        if self.afresh:  # the summary holds the outcome
            return f"{outcome}\n{self._asked()}" if is_stand_in else self._asked()
        return outcome if self._bandit.features is None else f"{outcome}\n{self._asked()}"

    def _asked(self) -> str:
        step = len(self._pulls)
        user = self._bandit.user(step)
        question = prompts.question(self._scene, user)
        if not self.afresh:
            return question
        terms = self._guide.terms(user) if self._suite.context == "guided" else None
        left = self._bandit.horizon - step
        told = prompts.table(self._arms, self._times, self._paid, left, terms)
        return f"{told}\n{question}"
