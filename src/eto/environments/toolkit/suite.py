"""What task suites and environments have in common: options, splits, the order of calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from eto.environments.toolkit.ranges import disjoint_ranges, range_tasks
from eto.environments.toolkit.scoring import RULES
from eto.errors import InputError
from eto.protocols import Step
from eto.types import Message, Task

INSTRUCTION = "You act in a text environment. Answer with one action."


def options_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a suite, from the `locals()` of its constructor's first line."""
    return {name: value for name, value in variables.items() if name not in ("self", "__class__")}


class Suite:
    """Base of task suites that keep the options of their constructor."""

    name: str
    splits: tuple[str, ...] = ("train", "dev", "test")
    _options: dict[str, Any]

    def spec(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}:{type(self).__qualname__}", dict(self._options)

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise InputError(
                f"unknown split {split!r}", where=self.name, hint=f"one of {', '.join(self.splits)}"
            )

    def _check_choice(self, option: str, known: tuple[str, ...]) -> None:
        if self._options[option] not in known:
            problem = f"unknown choice {self._options[option]!r}"
            raise InputError(problem, where=f"{self.name}.{option}", hint=f"one of {', '.join(known)}")


class NumberedSuite(Suite):
    """Base of suites whose tasks are numbers within ranges, with one instruction for all and without experts.

    Options: `train`, `dev`, `test`, `instruction`, `max_turns` and `rule`.
    """

    number: str
    """What a task's payload calls its number."""

    def _check_options(self, options: dict[str, Any]) -> None:
        """Keep the options. Raises `InputError` for ranges that overlap and an unknown rule."""
        self._options = options
        self._ranges = disjoint_ranges({split: options[split] for split in self.splits}, self.name)
        self._check_choice("rule", RULES)

    def tasks(self, split: str) -> list[Task]:
        """A task for each number of `split`."""
        return range_tasks(self._ranges, split, self.name, self.number)

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        return Message("system", self._options["instruction"]), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return self._options["max_turns"]

    def expert_actions(self, task: Task, environment: Any) -> None:
        """None: bring trajectories as a file."""
        return None


class EpisodeEnvironment:
    """Base of environments: a step needs a reset, and after the end nothing happens any more.

    A subclass sets `_last` in `reset` and answers one action in `_act`.
    """

    _last: Step | None = None

    def step(self, action: str) -> Step:
        if self._last is None:
            raise RuntimeError("step before reset")
        if self._last.terminated or self._last.truncated:
            return replace(self._last, observation="The episode has ended.")
        self._last = self._act(action)
        return self._last

    def _before(self) -> Step:
        """The step before, within an open episode."""
        assert self._last is not None, "step before reset"
        return self._last

    def _act(self, action: str) -> Step:
        """The environment's answer while the episode is open; `_last` is the one before."""
        raise NotImplementedError
