"""ScienceWorld steps a second of one JVM: the simulator as eto steps it, against its own Python wrapper.

Both replay the same expert trajectories of six training tasks, each in its own JVM, in turn. Only
`step` is timed; starting an episode is a row of its own: eto's `reset` against the wrapper's `load`
and `reset` with their defaults. `ScienceWorldEnv.step` also lists every valid action, looks around
and takes the inventory, which a language model that is shown none of it does not need.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import eto
from benchmarks.agent import KINDS, chosen_tasks
from benchmarks.frame import Outcome, Ratio, alternate, median_ratio, rows
from eto.environments.hosting.java import ensure_java
from eto.protocols import TaskSuite
from eto.types import Task

ETO, WRAPPER = "eto", "ScienceWorldEnv"
TASKS = 6
TARGET = 8.0
WARM_UP = 6
"""Rounds before it counts: a JVM plays 200 episodes in a run, and compiles its code in the first of them."""

Episode = tuple[Task, Sequence[str]]
"""A task and the actions to play."""


@dataclass(slots=True)
class Replay:
    """One way to play, and what came of it."""

    begin: Callable[[Task], None]
    step: Callable[[str], tuple[str, int]]
    """An action -> observation, and score from 0 to 100 (-100 after a wrong answer)."""
    rates: list[float] = field(default_factory=list)
    """Steps a second of each round over the episodes."""
    starts: list[float] = field(default_factory=list)
    """Mean seconds to start an episode, of each round."""
    answers: list[tuple[str, str, int]] = field(default_factory=list)
    """Action, observation and score of all steps of all rounds, in order."""

    def play(self, episodes: Sequence[Episode]) -> float:
        """Steps a second over `episodes`, their starts left out."""
        starting = stepping = 0.0
        steps = 0
        for task, actions in episodes:
            begun = time.perf_counter()
            self.begin(task)
            ready = time.perf_counter()
            answers = [self.step(action) for action in actions]
            stepping += time.perf_counter() - ready
            starting += ready - begun
            steps += len(actions)
            self.answers += [(action, *answer) for action, answer in zip(actions, answers, strict=True)]
        self.rates.append(steps / stepping)
        self.starts.append(starting / len(episodes))
        return self.rates[-1]


def run(quick: bool) -> Outcome:
    # Whole observations: where one is cut depends on the order in which it names things.
    suite = eto.load_suite("scienceworld", kinds=list(KINDS), observation_limit=0)
    tasks = chosen_tasks(suite)
    tasks = [tasks[number * len(tasks) // TASKS] for number in range(TASKS)][:: 3 if quick else 1]
    episodes = [(expert.task, expert.actions) for expert in eto.collect_experts(suite, tasks)]
    warm_up = 1 if quick else WARM_UP
    with direct(suite) as ours, wrapped() as theirs:
        found = alternate(
            {ETO: lambda: ours.play(episodes), WRAPPER: lambda: theirs.play(episodes)},
            2 if quick else 5,
            warm_up=warm_up,
        )
    starts = {f"{ETO}, start of an episode": ours.starts[warm_up:]}
    starts[f"{WRAPPER}, start of an episode"] = theirs.starts[warm_up:]
    return Outcome(
        title="ScienceWorld steps",
        setting=f"{sum(len(actions) for _, actions in episodes)} actions of {len(episodes)} expert "
        f"trajectories ({', '.join(sorted({task.kind for task, _ in episodes}))}), simplification easy; "
        "one JVM a contestant.",
        rows=rows(found, "steps/s") + rows(starts, "s"),
        ratios=[
            Ratio("steps/s, eto over ScienceWorldEnv", median_ratio(found, ETO, WRAPPER), TARGET),
            Ratio(
                "seconds to start an episode, ScienceWorldEnv over eto",
                median_ratio(starts, *[*starts][::-1]),
            ),
        ],
        same=compare(ours, theirs),
        notes=[
            "New JVMs are slow until they have compiled their code; rounds left out for it: "
            f"{warm_up}, the first of them at {ours.rates[0]:.0f} ({ETO}) and {theirs.rates[0]:.0f} steps/s."
        ],
    )


def compare(ours: Replay, theirs: Replay) -> str:
    """How far both gave the same answers. Raises AssertionError where they did not."""
    literal = 0
    for one, other in zip(ours.answers, theirs.answers, strict=True):
        if one[0] != other[0] or one[2] != other[2] or words(one[1]) != words(other[1]):
            raise AssertionError(f"eto and the wrapper differ: {one} and {other}")
        literal += one == other
    steps = len(ours.answers)
    if literal == steps:
        return f"observations and scores of all {steps} steps are equal."
    return (
        f"the scores of all {steps} steps are equal, and so are the observations: {literal} to the letter, "
        "the others but for the order of what they list, which the simulator shuffles."
    )


def words(observation: str) -> list[str]:
    """What an observation says, whatever the order."""
    return sorted(re.findall(r"\w+", observation))


@contextmanager
def direct(suite: TaskSuite) -> Iterator[Replay]:
    """The suite's own environment."""
    environment = suite.environment()

    def step(action: str) -> tuple[str, int]:
        answer = environment.step(action)
        return answer.observation, round(100 * answer.score)

    try:
        yield Replay(environment.reset, step)
    finally:
        environment.close()


@contextmanager
def wrapped() -> Iterator[Replay]:
    """The simulator's Python wrapper, as its package documents it."""
    # The wrapper starts whatever `java` is on PATH: let it be the one eto found.
    java = Path(ensure_java().path).resolve().parent
    os.environ["PATH"] = f"{java}{os.pathsep}{os.environ.get('PATH', '')}"
    from scienceworld import ScienceWorldEnv

    environment = ScienceWorldEnv()

    def begin(task: Task) -> None:
        environment.load(task.payload["kind"], task.payload["variation"], task.payload["simplification"])
        environment.reset()

    def step(action: str) -> tuple[str, int]:
        observation, _, _, info = environment.step(action)
        return observation.strip(), info["score"]

    try:
        yield Replay(begin, step)
    finally:
        environment.close()
