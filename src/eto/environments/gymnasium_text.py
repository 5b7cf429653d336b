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

from eto.environments.ranges import disjoint_ranges, range_tasks
from eto.environments.scoring import RULES, clipped, episode_score
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Message, Task

INSTRUCTION = "You act in a text environment. Answer with one action."


class GymnasiumText:
    """Task suite over the seeds of one environment.

    id: as for `gymnasium.make`; "module:Name-v0" imports the module first.
    kwargs: passed to `gymnasium.make`.
    train, dev, test: first seed of the split and the one after its last; they must not overlap.
    instruction: the system message.
    max_turns: turn cap.
    rule: the episode's reward is the "sum" of Gymnasium's, the "best" or the "last" one.
    scale: what it is multiplied by; the result is clipped to [0, 1].
    success: key of `info` that tells whether the task is solved; None: a reward of 1 at the end does.

    Raises `InputError` for a bad option or an environment that is not there or not text.
    """

    name = "gymnasium"
    splits = ("train", "dev", "test")

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
    ) -> None:
        self._options = {
            "id": id,
            "train": train,
            "dev": dev,
            "test": test,
            "kwargs": kwargs,
            "instruction": instruction,
            "max_turns": max_turns,
            "rule": rule,
            "scale": scale,
            "success": success,
        }
        if rule not in RULES:
            raise InputError(f"unknown choice {rule!r}", where="gymnasium.rule", mend=", ".join(RULES))
        self._ranges = disjoint_ranges({"train": train, "dev": dev, "test": test}, self.name)
        self.environment().close()

    def tasks(self, split: str) -> list[Task]:
        """A task for each seed of `split`."""
        name = self._options["id"].rpartition(":")[2]
        return range_tasks(self._ranges, split, self.name, "seed", name)

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        return Message("system", self._options["instruction"]), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return self._options["max_turns"]

    def environment(self) -> GymnasiumTextEnvironment:
        module, _, name = self._options["id"].rpartition(":")
        try:
            if module:
                import_module(module)
            made = gymnasium.make(name, disable_env_checker=True, **(self._options["kwargs"] or {}))
        except (ImportError, gymnasium.error.Error, TypeError) as error:
            mend = "check its name and kwargs; module:Name-v0 imports the module that registers it"
            raise InputError(f"cannot be made: {error}", where=self._options["id"], mend=mend) from error
        spaces = {"observations": made.observation_space, "actions": made.action_space}
        for what, space in spaces.items():
            if not isinstance(space, gymnasium.spaces.Text):
                made.close()
                mend = "wrap it so that both are gymnasium.spaces.Text"
                raise InputError(f"its {what} are {space}, not text", where=self._options["id"], mend=mend)
        return GymnasiumTextEnvironment(made, self._options)

    def expert_actions(self, task: Task, environment: Any) -> None:
        """None: Gymnasium has no experts; bring trajectories as a file."""
        return None

    def spec(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}:GymnasiumText", dict(self._options)


class GymnasiumTextEnvironment:
    """One Gymnasium environment, playing one episode at a time."""

    def __init__(self, inner: Any, options: Mapping[str, Any]) -> None:
        self._inner, self._options = inner, options
        self._rewards: list[float] = []
        self._last: Step | None = None

    def reset(self, task: Task) -> str:
        observation, _ = self._inner.reset(seed=task.payload["seed"])
        self._rewards = []
        self._last = Step(observation, 0.0, terminated=False, success=False)
        return observation

    def step(self, action: str) -> Step:
        if self._last is None:
            raise RuntimeError("step before reset")
        if self._last.terminated or self._last.truncated:
            return replace(self._last, observation="The episode has ended.")
        observation, paid, terminated, truncated, info = self._inner.step(action)
        if not isinstance(observation, str):
            raise EnvironmentFailure(
                f"an observation is {observation!r}, not text", where=self._options["id"]
            )
        self._rewards.append(float(paid))
        score = episode_score(self._rewards, self._options["rule"], self._options["scale"])
        reward = clipped(score)
        key = self._options["success"]
        solved = reward == 1.0 if key is None else bool(info.get(key))
        self._last = Step(
            observation,
            reward,
            terminated=bool(terminated),
            truncated=bool(truncated) and not terminated,
            success=bool(terminated) and solved,
            score=score,
        )
        return self._last

    def close(self) -> None:
        inner, self._inner, self._last = self._inner, None, None
        if inner is not None:
            inner.close()
