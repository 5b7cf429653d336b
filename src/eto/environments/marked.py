"""A suite whose prompts end with a text of ours, for agents that act under one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eto.environments.contract import checked_spec
from eto.environments.host import build_suite
from eto.protocols import Environment, TaskSuite
from eto.types import Message, Task


def mark(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """A prompt with `text` as a last paragraph of its last user message."""
    *before, last = messages
    return (*before, replace(last, content=f"{last.content}\n\n{text}"))


def mark_suite(suite: TaskSuite, text: str) -> MarkedSuite:
    """`suite`, in workers too, with prompts that end with `text`."""
    return MarkedSuite(checked_spec(suite), text)


class MarkedSuite:
    """A suite, rebuilt from its `spec`, with prompts that end with `text`."""

    def __init__(self, spec: Sequence[Any], text: str) -> None:
        self._spec, self._text = (spec[0], dict(spec[1])), text
        self._suite = build_suite(self._spec)
        self.name, self.splits = self._suite.name, self._suite.splits

    def tasks(self, split: str) -> list[Task]:
        return self._suite.tasks(split)

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        return mark(self._suite.messages(task, observation), self._text)

    def max_turns(self, task: Task) -> int:
        return self._suite.max_turns(task)

    def environment(self) -> Environment:
        return self._suite.environment()

    def expert_actions(self, task: Task, environment: Environment) -> Sequence[str] | None:
        return self._suite.expert_actions(task, environment)

    def spec(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}:MarkedSuite", {"spec": list(self._spec), "text": self._text}
