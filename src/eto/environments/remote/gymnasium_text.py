"""Any Gymnasium environment whose observations and actions are text.

A task is a seed: `env.reset(seed=...)`. What Gymnasium calls reward is paid step by step; here an
episode has one reward in [0, 1], made of them by a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, Literal

import gymnasium

from eto.environments.hosting.boundary import checked_flag, checked_number, user_code
from eto.environments.toolkit.ranges import range_tasks
from eto.environments.toolkit.scoring import clipped, episode_score
from eto.environments.toolkit.suite import INSTRUCTION, EpisodeEnvironment, NumberedSuite, options_of
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Task

RAISES = ("fail", "tell")


class GymnasiumText(NumberedSuite):
    """Task suite over the seeds of one environment.

    id: as for `gymnasium.make`; "module:Name-v0" imports the module first.
    kwargs: passed to `gymnasium.make`.
    train, dev, test: first seed of the split and the one after its last; they must not overlap.
    instruction: the system message.
    max_turns: turn cap.
    rule: the episode's reward is the "sum" of Gymnasium's, the "best" or the "last" one.
    scale: what it is multiplied by; the result is clipped to [0, 1].
    success: key of `info` that says whether the task is solved; None: a reward of 1 at the end does.
    raises: what an exception of the environment's `step` means. "fail": it is broken, and the episode
        fails with this reason. "tell": it cannot read the action; the agent reads why, and the turn counts.

    Raises `InputError` for a bad option or an environment that is not there or not text.
    """

    name = "gymnasium"
    number = "seed"

    def __init__(
        self,
        id: str,
        train: list[int],
        dev: list[int],
        test: list[int],
        kwargs: dict[str, Any] | None = None,
        instruction: str = INSTRUCTION,
        max_turns: int = 30,
        rule: Literal["sum", "best", "last"] = "sum",
        scale: float = 1.0,
        success: str | None = None,
        raises: Literal["fail", "tell"] = "fail",
    ) -> None:
        self._check_options(options_of(locals()))
        self._check_choice("raises", RAISES)
        self.environment().close()

    def tasks(self, split: str) -> list[Task]:
        """A task for each seed of `split`."""
        name = self._options["id"].rpartition(":")[2]
        return range_tasks(self._ranges, split, self.name, "seed", name)

    def environment(self) -> GymnasiumTextEnvironment:
        module, _, name = self._options["id"].rpartition(":")
        try:
            if module:
                import_module(module)
            made = gymnasium.make(name, disable_env_checker=True, **(self._options["kwargs"] or {}))
        except (ImportError, gymnasium.error.Error, TypeError) as error:
            hint = "check its name and kwargs; module:Name-v0 imports the module that registers it"
            raise InputError(f"cannot be made: {error}", where=self._options["id"], hint=hint) from error
        spaces = {"observations": made.observation_space, "actions": made.action_space}
        for what, space in spaces.items():
            if not isinstance(space, gymnasium.spaces.Text):
                made.close()
                hint = "wrap it so that both are gymnasium.spaces.Text"
                raise InputError(f"its {what} are {space}, not text", where=self._options["id"], hint=hint)
        return GymnasiumTextEnvironment(made, self._options)


class GymnasiumTextEnvironment(EpisodeEnvironment):
    """One Gymnasium environment, playing one episode at a time."""

    def __init__(self, inner: Any, options: Mapping[str, Any]) -> None:
        self._inner, self._options = inner, options
        self._rewards: list[float] = []

    def reset(self, task: Task) -> str:
        answer = self._inner.reset(seed=task.payload["seed"])
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise self._breach(f"reset returned {type(answer).__name__}, not (observation, info)")
        observation, self._rewards = answer[0], []
        self._last = Step(observation, 0.0, terminated=False, success=False)
        return observation

    def _act(self, action: str) -> Step:
        try:
            with user_code("step"):
                answer = self._inner.step(action)
        except EnvironmentFailure as failure:
            if failure.__cause__ is None:  # its own word for a failure
                raise
            if self._options["raises"] == "fail":
                hint = "answer an action that cannot be read; or set raises=tell, which tells the agent"
                raise EnvironmentFailure(failure.problem, where=failure.where, hint=hint) from failure
            reason = failure.problem.partition(": ")[2] or failure.problem
            return replace(self._before(), observation=f"The action cannot be read: {reason}")
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise self._breach(f"step returned {type(answer).__name__}, not five values")
        observation, paid, terminated, truncated, info = answer
        if not isinstance(observation, str):
            raise self._breach(f"an observation is {type(observation).__name__}, not text")
        self._rewards.append(checked_number(paid, "a reward"))
        score = episode_score(self._rewards, self._options["rule"], self._options["scale"])
        reward = clipped(score)
        key = self._options["success"]
        solved = reward == 1.0 if key is None else isinstance(info, Mapping) and bool(info.get(key))
        ended = checked_flag(terminated, "terminated")
        return Step(
            observation,
            reward,
            terminated=ended,
            truncated=checked_flag(truncated, "truncated") and not ended,
            success=ended and solved,
            score=score,
        )

    def _breach(self, problem: str) -> EnvironmentFailure:
        return EnvironmentFailure(
            problem, where=self._options["id"], hint="fix it as Gymnasium's interface says"
        )

    def close(self) -> None:
        inner, self._inner, self._last = self._inner, None, None
        if inner is not None:
            inner.close()
