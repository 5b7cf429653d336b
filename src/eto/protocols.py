"""What an environment, a task suite, an engine and a method must offer. Duck typing suffices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Protocol

from eto.types import Message, Phase, Task, checkpoint_name


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
    afresh: bool = False
    """The observation says all there is to know: the next action follows the prompt's system messages and
    this observation, and no past turns."""


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


Finish = Literal["stop", "length"]
"""Why a continuation ended: with a stop id, or at its cap of tokens."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine continues a prompt."""

    max_tokens: int
    """Most tokens of the continuation."""
    temperature: float = 0.0
    """0 is greedy."""
    seed: int = 0
    """Of this continuation alone. Nothing else decides what is drawn: not the batch, not the session."""
    stop: tuple[int, ...] = ()
    """Ids that end the continuation; the one that did is part of it."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A continuation of a prompt."""

    ids: tuple[int, ...]
    """At least one; the last one is a stop id exactly where `finish` is "stop"."""
    log_probs: tuple[float, ...]
    """For each id its log-probability (natural logarithm) given all before it, under the model's own
    distribution: temperature 1, whatever it was sampled at."""
    finish: Finish
    version: int = 0
    """Number of the weights that wrote it: 0, and one more with each `load`."""


@dataclass(frozen=True, slots=True)
class EngineFault:
    """Why an engine could not answer. A value: it costs one episode, not the call."""

    problem: str
    retryable: bool = True
    """Whether the same request may succeed later."""
    hint: str = ""
    """What the user can do about it."""


class Engine(Protocol):
    """Continues token ids with a language model; many requests at once.

    The engine owns batching and caches. Bad arguments and bugs raise; whatever may befall an engine
    that works (memory, a connection, a prompt beyond its context) is an `EngineFault`.
    """

    max_context: int
    """Most tokens of a prompt and its continuation together."""

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion | EngineFault:
        """Continue `ids`. `session` is a hint: prompts of one session mostly begin alike, so what is
        cached for it is worth keeping until `release`. It changes no answer."""
        ...

    async def load(self, directory: Path) -> None:
        """Take the weights in `directory`, as `save_pretrained` writes them, once the requests under way
        are answered. Raises `InputError` where they cannot be used."""
        ...

    async def sleep(self) -> None:
        """Free weights and caches until the next `load`, where the engine can; requests are faults until
        then."""
        ...

    async def release(self, session: str) -> None:
        """Free what is cached for `session`. Safe for one that is unknown."""
        ...

    async def close(self) -> None:
        """Free everything. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class Agent:
    """A trained model, by its name in stages, episodes and reports."""

    name: str
    directory: Path
    """Where its model is."""
    prompt: str = ""
    """What its prompts end with when it acts, in addition to what the suite says."""


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


CLONED = "sft"
"""Name of the agent that clones what the recipe lets be cloned, and of its stage."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as its method declares it, for those who do not run it: forks, and checks of the disk."""

    name: str
    settings: tuple[str, ...] = ()
    """Fields and sections of the method's settings that decide its result, besides those of earlier
    stages."""
    agent: str = ""
    """The agent it makes; "" where it makes none."""
    phases: tuple[Phase, ...] = ()
    """What it plays; `*` in a name stands for any text: of checkpoints the number is not known before."""
    iteration: int | None = None
    """The iteration it belongs to, from 1, where the method has such."""
    common: bool = False
    """Every method that declares it alike, after equal stages, makes the same of it, so that runs of other
    methods may take it."""

    @classmethod
    def clone(cls, agent: str, *settings: str) -> Stage:
        """That of `eto.steps.clone`. The agent `sft` is the recipe's model after cloning `lab.cloned`,
        without a prompt of its own; call others by another name."""
        return cls(agent, settings, agent, common=agent == CLONED)

    @classmethod
    def dev(cls, agent: str) -> Stage:
        """That of `eto.steps.evaluate`."""
        return cls(f"dev-{agent}", phases=(Phase.evaluate(agent, "dev"),), common=True)

    @classmethod
    def explore(cls, iteration: int = 1, *settings: str) -> Stage:
        """That of `eto.steps.explore`, played by the agent made last."""
        played = (Phase.explore(iteration),)
        return cls(f"explore-{iteration}", settings, phases=played, iteration=iteration, common=True)

    @classmethod
    def continued(cls, name: str, *settings: str, iteration: int | None = None) -> Stage:
        """That of `eto.steps.continuing`, called `name`."""
        return cls(name, settings, "", (Phase.continued(name),), iteration)

    @classmethod
    def contrast(cls, iteration: int = 1, *settings: str) -> Stage:
        """That of `eto.steps.contrast`."""
        return cls(f"contrast-{iteration}", settings, iteration=iteration)

    @classmethod
    def prefer(cls, agent: str, iteration: int = 1, *settings: str) -> Stage:
        """That of `eto.steps.prefer`, which measures its checkpoints on dev."""
        return cls._checked(f"dpo-{iteration}", settings, agent, iteration)

    @classmethod
    def separate(cls, agent: str, *settings: str) -> Stage:
        """That of `eto.steps.separate`, which measures its checkpoints on dev."""
        return cls._checked(agent, settings, agent, None)

    @classmethod
    def _checked(cls, name: str, settings: tuple[str, ...], agent: str, iteration: int | None) -> Stage:
        checks = Phase.evaluate(checkpoint_name(name, "*"), "dev")
        return cls(name, settings, agent, (checks,), iteration)

    def plays(self, phase: Phase) -> bool:
        """Whether the episodes of `phase` are played in this stage."""
        return any(fnmatchcase(phase.text, pattern.text) for pattern in self.phases)

    @property
    def plays_dev(self) -> bool:
        """Whether it plays dev tasks."""
        return any(phase.split == "dev" for phase in self.phases)


class Need(Flag):
    """What a method cannot learn without. `A | B`: one of the two suffices."""

    EXPERTS = auto()
    """Expert trajectories of training tasks."""
    REPLAY = auto()
    """An environment that answers the same actions alike each time."""
    REWARD = auto()
    """Own episodes that earn as much as the method counts as success."""
    SPREAD = auto()
    """Rewards that differ: between own episodes, or between one and the expert's."""
    OWN_SPREAD = auto()
    """Own episodes whose rewards differ."""
    DEV = auto()
    """Dev tasks."""


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
    """Fields of the settings that decide which stages there are, and no result of a stage that does not name
    them."""
    needs: Callable[[Any], Sequence[Need]] | None = None
    """needs(settings): what it cannot do without, each of them; dev tasks are known by the settings' own
    `needs_dev`. None: not said; it is then taken to need experts, and nothing recommends it."""
    controls: Callable[[Any, Mapping[str, int]], Mapping[str, Any]] | None = None
    """controls(settings, tokens): the method's own controls in a comparison, name -> settings of the method;
    `tokens` are those that each training stage of a finished run with `settings` passed, in order."""
    best_of: Phase | None = None
    """Episodes of the test tasks of which the best of each task is the method's figure. It is chosen by the
    reward, so comparisons keep it apart from those of agents."""
