"""What an environment, a task suite, a policy and a method must offer. Duck typing suffices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from eto.types import Message, Task


@dataclass(frozen=True, slots=True)
class Step:
    """The environment's answer to one action."""

    observation: str
    reward: float
    """Reward of the trajectory had it ended here, in [0, 1]."""
    terminated: bool
    """The environment ended the episode."""
    truncated: bool = False
    """A limit of the environment's own ended the episode."""
    success: bool | None = None
    """Whether the task is solved; None where the environment does not say."""
    score: float | None = None
    """The environment's own score, unclipped; None where it has none."""


class Environment(Protocol):
    """One simulator, playing one episode at a time.

    Deterministic in its scores for a task: replayed actions give the same rewards.
    Raises `eto.errors.EnvironmentFailure` when the simulator itself fails; an action
    it cannot understand is answered with an observation, never an exception. Any other
    exception, and an answer of the wrong kind, counts as such a failure.
    """

    def reset(self, task: Task) -> str:
        """Start `task`; returns the first observation (the task's text included)."""
        ...

    def step(self, action: str) -> Step: ...

    def close(self) -> None:
        """Release processes and memory. Safe to call twice."""
        ...


class TaskSuite(Protocol):
    """A named set of tasks with their splits, prompts, limits and experts."""

    name: str
    splits: tuple[str, ...]

    def tasks(self, split: str) -> list[Task]:
        """All tasks of an official split, in a fixed order. Raises `InputError`."""
        ...

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        """The prompt: instruction and first observation, ending on a user message."""
        ...

    def max_turns(self, task: Task) -> int: ...

    def environment(self) -> Environment:
        """A new simulator; the caller closes it."""
        ...

    def expert_actions(self, task: Task, environment: Environment) -> Sequence[str] | None:
        """An expert's actions for `task`, not yet verified; None where there is none.

        `environment` is one this suite made; it may be reset in the course.
        """
        ...

    def spec(self) -> tuple[str, dict[str, Any]]:
        """("module:Class", keyword arguments) from which a worker rebuilds the suite."""
        ...


class ReplyEnd(StrEnum):
    """Why the policy stopped writing."""

    END_OF_TURN = "end_of_turn"
    LENGTH = "length"
    """The cap on action tokens: a runaway turn, kept and counted."""
    CONTEXT = "context"
    """No room left in the model's context; the action is not to be used."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One finished action."""

    session: Any
    action: str
    action_ids: tuple[int, ...] | None
    end: ReplyEnd


class Policy(Protocol):
    """A language model that plays many episodes at once.

    A session is one append-only conversation: `open` it with the prompt, then `submit`
    (None first, each new observation later) asks for an action, and `poll` advances all
    submitted sessions and returns those that finished one. `release` frees a session.
    `open` raises `PromptTooLong` for a prompt that the context does not hold: its episode
    ends without a turn.
    """

    name: str
    tokenizer_id: str | None
    """Fingerprint of the tokenizer behind `action_ids`; None for text-only policies."""

    def open(self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int = 0) -> Any: ...

    def submit(self, session: Any, observation: str | None = None) -> None: ...

    def poll(self) -> list[Reply]: ...

    def release(self, session: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Agent:
    """A trained model, by its name in stages, episodes and reports."""

    name: str
    directory: Path
    """Where its model is."""
    prompt: str = ""
    """What its prompts end with when it acts, beside what the suite says."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method's training gave."""

    agents: tuple[Agent, ...]
    """In the order in which they were made; the test plays each."""
    shipped: str
    """Name of the one to use."""
    reason: str
    """Why that one."""
    note: str = ""
    """What a person should know at the end."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as its method declares it, for those who do not run it: forks, and checks of the disk."""

    name: str
    settings: tuple[str, ...] = ()
    """Fields and sections of the method's settings that decide its result, beside what earlier stages say."""
    agent: str = ""
    """The agent it makes; "" where it makes none."""
    phases: tuple[str, ...] = ()
    """Phases of the store that it plays; `*` stands for any text."""

    def plays(self, phase: str) -> bool:
        """Whether the episodes of `phase` are played in this stage."""
        return any(fnmatchcase(phase, pattern) for pattern in self.phases)

    @property
    def plays_dev(self) -> bool:
        """Whether it plays dev tasks."""
        return any(pattern.endswith("/dev") for pattern in self.phases)


@dataclass(frozen=True, slots=True)
class Method:
    """A training method: one file of `eto.methods`, which holds it as `METHOD`."""

    name: str
    summary: str
    """One line, for lists."""
    settings: type[Any]
    """Its subclass of `eto.settings.MethodSettings`, the section `method` of a recipe."""
    train: Callable[[Any, Any], Outcome]
    """train(lab, settings): runs the stages on an `eto.experiment.lab.Lab`."""
    stages: Callable[[Any], Sequence[Stage]]
    """stages(settings): all that `train` goes through, in its order."""
    extent: tuple[str, ...] = ()
    """Fields of the settings that decide which stages there are, and no stage's result."""
