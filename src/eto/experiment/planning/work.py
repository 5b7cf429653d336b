"""Tokens and hours of a run's stages, from lengths and counts. Pure arithmetic.

A pass over a token costs 2 operations a parameter, training on it 6, or 8 where activations are
recomputed (Kaplan et al., arXiv 2001.08361, section 2.1; Narayanan et al., arXiv 2104.04473). A decoding
step reads all weights from memory, whatever the number of episodes that go on with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eto.protocols import Stage
from eto.settings import DpoSettings, GuardSettings, MethodSettings, TrainingSettings

BETWEEN = 0.5
"""Where an own episode ends, between the expert's turns (0) and the limit of turns (1). Assumed."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Means over sampled episodes, in tokens and turns."""

    prompt: float
    action: float
    """One turn of the agent."""
    observation: float
    turns: float
    """Of an expert's episode."""
    most_turns: float
    """That the suite allows."""
    longest: int
    """Tokens of the longest sampled episode, an expert's."""
    source: str
    """Where they come from, as a phrase."""

    @property
    def own_turns(self) -> float:
        """Of an episode of the agent."""
        return self.turns + BETWEEN * max(0.0, self.most_turns - self.turns)

    def tokens(self, turns: float) -> float:
        """Of an episode of so many turns."""
        return self.prompt + turns * (self.action + self.observation)


@dataclass(frozen=True, slots=True)
class Counts:
    """Tasks of a recipe."""

    train: int
    """Played in exploring."""
    experts: int
    """That have an expert, at most."""
    cloned: int
    """Whose expert is cloned."""
    dev: int
    test: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model is trained and acts."""

    parameters: int
    operations: float
    """Floating-point operations a second of one device, at best."""
    bandwidth: float
    """Bytes a second that one device reads, at best."""
    training_share: float = 0.35
    """Of the operations that training reaches."""
    acting_share: float = 0.5
    """Of the bandwidth that decoding reaches, and of the operations that reading does."""
    slots: int = 1
    """Episodes at the same time."""
    compute: int = 2
    """Bytes of a number in the computation."""
    recomputes: bool = False
    """Whether training computes activations twice."""
    training_devices: int = 1
    acting_devices: int = 1

    def training_seconds(self, tokens: float) -> float:
        """Of training on so many tokens."""
        operations = (8 if self.recomputes else 6) * self.parameters * tokens
        return operations / (self.operations * self.training_share * self.training_devices)

    def scoring_seconds(self, tokens: float) -> float:
        """Of one forward pass over so many tokens."""
        return 2 * self.parameters * tokens / (self.operations * self.training_share * self.training_devices)

    def acting_seconds(self, read: float, generated: float) -> float:
        """Of playing: reading is bound by operations, writing by them or by reading the weights."""
        operations, devices = self.operations * self.acting_share, self.acting_devices
        together = max(1.0, self.slots / devices)
        step = max(
            self.compute * self.parameters / (self.bandwidth * self.acting_share),
            2 * self.parameters * together / operations,
        )
        return 2 * self.parameters * read / (operations * devices) + step * generated / (together * devices)


@dataclass(frozen=True, slots=True)
class Work:
    """One stage, or the sum of several."""

    stage: str
    episodes: int
    trained: int
    """Tokens that pass the model in training, all epochs."""
    read: int
    """Tokens of prompts and observations, each once: caches last as long as an episode."""
    generated: int
    hours: float
    """Without simulators, starts and saving."""


def works(
    stages: Sequence[Stage], settings: MethodSettings, counts: Counts, lengths: Lengths, pace: Pace
) -> list[Work]:
    """Each of `stages`, and the test of the agents they make.

    How many pairs an exploration gives nobody knows before: one of each task that was played, at most.
    """
    done: list[Work] = []
    explored = 0
    for stage in stages:
        sections = _sections(stage, settings)
        training = next((each for each in sections if isinstance(each, TrainingSettings)), None)
        episodes = _played(stage, sections, training, counts, lengths)
        trained, scored = 0, 0.0
        if stage.agent and training is not None:
            once = _epoch(stage, training, counts, lengths, explored)
            trained, scored = round(training.epochs * once), once if hasattr(training, "beta") else 0.0
        if any(phase.purpose == "explore" for phase in stage.phases):
            explored += episodes
        done.append(_work(stage.name, episodes, trained, scored, lengths, pace))
    agents = sum(bool(stage.agent) for stage in stages)
    return [*done, _work("test", agents * counts.test, 0, 0.0, lengths, pace)]


def total(done: Iterable[Work]) -> Work:
    """The sum of stages."""
    parts = list(done)
    return Work(
        "total",
        sum(each.episodes for each in parts),
        sum(each.trained for each in parts),
        sum(each.read for each in parts),
        sum(each.generated for each in parts),
        sum(each.hours for each in parts),
    )


def _work(name: str, episodes: int, trained: int, scored: float, lengths: Lengths, pace: Pace) -> Work:
    turns = lengths.own_turns
    read = round(episodes * (lengths.prompt + turns * lengths.observation))
    generated = round(episodes * turns * lengths.action)
    seconds = pace.training_seconds(trained) + pace.scoring_seconds(scored)
    return Work(
        name, episodes, trained, read, generated, (seconds + pace.acting_seconds(read, generated)) / 3600
    )


def _sections(stage: Stage, settings: MethodSettings) -> list[Any]:
    fields = dict.fromkeys(name.split(".")[0] for name in stage.settings)
    return [getattr(settings, name) for name in fields if hasattr(settings, name)]


def _played(
    stage: Stage,
    sections: Sequence[Any],
    training: TrainingSettings | None,
    counts: Counts,
    lengths: Lengths,
) -> int:
    """Episodes that a stage plays."""
    samples = next((each.samples for each in sections if hasattr(each, "samples")), 1)
    guard = next((each for each in sections if isinstance(each, GuardSettings)), None)
    checks = training.epochs if training is not None and (guard is None or guard.dev_every_epoch) else 1
    played = 0
    for phase in stage.phases:
        if phase.purpose == "evaluate":
            tasks = counts.dev if phase.split == "dev" else counts.test
            played += tasks * (checks if "*" in phase.name else 1)
        elif phase.purpose == "explore":
            played += counts.train * samples
        elif phase.purpose == "continue":  # from each of the experts' turns
            played += round(counts.experts * lengths.turns) * samples
    return played


def _epoch(
    stage: Stage, training: TrainingSettings, counts: Counts, lengths: Lengths, explored: int
) -> float:
    """Tokens that an epoch of a stage passes."""
    expert, own = lengths.tokens(lengths.turns), lengths.tokens(lengths.own_turns)
    if stage.common:
        return counts.cloned * expert
    if isinstance(training, DpoSettings):
        return counts.train * (expert + own)
    return counts.cloned * expert + explored * own
