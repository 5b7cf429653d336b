"""Settings of acting: which tasks are played, where, and how many episodes at once."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from eto.settings.base import Conflict, Free, Most, Settings
from eto.settings.engines import ChatSettings, EngineName, ServerSettings, VllmSettings
from eto.settings.limits import Count, Megabytes, NotNegative, Positive, Share, Whole

_LONGEST = Most(2_592_000)  # 30 days, in seconds
_HOTTEST = Most(100)


class EnvironmentLimits(Settings):
    """Processes, deadlines and memory of simulators. They decide no result of an episode that ends."""

    workers: Annotated[Whole, Most(1024), Free()] = 2
    """Processes that run simulators; 0, in Python only, plays in this process."""
    step_seconds: Annotated[Positive, _LONGEST, Free()] = 30.0
    """Longest wait for the answer to one action."""
    episode_seconds: Annotated[Positive, _LONGEST, Free()] = 600.0
    """Longest time the simulator may spend on one episode; over it counts as a failed simulator."""
    reset_seconds: Annotated[Positive, _LONGEST, Free()] = 120.0
    """Longest wait for the start of an episode."""
    memory_mb: Annotated[Megabytes | None, Most(1_000_000_000), Free()] = None
    """Most memory of one worker process and all it started, in MB; null: an equal share of the machine's."""


class EnvironmentSettings(EnvironmentLimits):
    """The environment of a recipe."""

    workers: Annotated[Count, Most(1024), Free()] = 2
    """Processes that run simulators."""
    name: str = Field(min_length=1)
    """The task suite: `scienceworld` or another that `eto environments` lists, or your own as
    `path/to/file.py:Class` or `module:Class`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the task suite: task types, simplification and the like."""


class TaskSettings(Settings):
    """How many tasks of each task type."""

    train_per_kind: Count | None = None
    """Training tasks of each task type; null takes all."""
    dev_per_kind: Whole | None = None
    """Dev tasks of each task type; null takes all."""
    test_per_kind: Count | None = None
    """Test tasks of each task type; null takes all."""
    experts_per_kind: Whole | None = None
    """Training tasks of each task type that have an expert; the agent practises on all others without one. 0:
    no experts, the recipe's model begins. Null: all that the suite has an expert for, and no others are
    played. Paper: null."""
    explore_unseen: Share = 0.0
    """Share of the training tasks kept from cloning, so that the agent also explores tasks it has
    not memorised. Paper: 0."""

    @model_validator(mode="after")
    def _some_without_expert(self) -> Self:
        experts, tasks = self.experts_per_kind, self.train_per_kind
        if experts is not None and tasks is not None and experts >= tasks:
            raise Conflict(
                "all training tasks have an expert; set {place}experts_per_kind below {place}train_per_kind, "
                "or to null"
            )
        return self


class RolloutSettings(Settings):
    """How episodes are played, in exploring and evaluating alike."""

    slots: Annotated[Count, Most(10_000)] = 24
    """Episodes that run at the same time."""
    max_action_tokens: Annotated[Count, Most(1_000_000)] = 32
    """Longest action. Paper: 512, with written thoughts; bare actions need about 20."""
    retries: Annotated[Whole, Most(1000)] = 1
    """Times an episode is started again after its simulator failed."""
    engine: EngineName = "in_process"
    """What writes the actions: this process, a server that runs already, vLLM servers started for the
    run, or, for experts and baselines, a chat server (docs/engines.md)."""
    server: Annotated[ServerSettings | None, Free()] = None
    """Where the server is; read where `engine` is server."""
    vllm: Annotated[VllmSettings | None, Free()] = None
    """How vLLM is started; read where `engine` is vllm. Null: as the defaults are."""
    chat: ChatSettings | None = None
    """Which model behind a chat server; read where `engine` is chat."""

    @model_validator(mode="after")
    def _server_is_named(self) -> Self:
        if self.engine == "server" and self.server is None:
            raise Conflict("{place}engine is server, but {place}server.urls names none; give it")
        if self.engine == "chat" and self.chat is None:
            raise Conflict("{place}engine is chat, but {place}chat names no url and no model; give them")
        return self


class ExploreSettings(Settings):
    """Collecting the agent's own episodes."""

    samples: Annotated[Count, Most(10_000)] = 1
    """Episodes of each training task and round. Paper: 1."""
    temperature: Annotated[NotNegative, _HOTTEST] = 0.0
    """Sampling temperature; 0 is greedy. Paper: 0."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise Conflict("{place}samples above 1 needs {place}temperature above 0")
        return self


class EvaluationSettings(Settings):
    """Measuring the agents."""

    temperature: Annotated[NotNegative, _HOTTEST] = 0.0
    """Sampling temperature on dev and test. Paper: 0."""
    bootstrap_resamples: Annotated[int, Most(1_000_000)] = Field(2000, ge=100)
    """Resamples behind each 95% interval."""
