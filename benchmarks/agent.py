"""A real agent, real episodes and real pairs to measure on, made once and kept in the user's cache.

SmolLM2-135M clones the simulator's solutions of four ScienceWorld task types and plays the same
tasks; a short training, so that enough episodes fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import eto
from eto.data.atomic import atomic_directory
from eto.data.formats import read_trajectories, write_trajectories
from eto.paths import cache_dir
from eto.protocols import TaskSuite
from eto.settings import ContrastSettings
from eto.types import Pair, Task, Trajectory

KINDS = ("find-plant", "find-animal", "lifespan-longest-lived", "lifespan-shortest-lived")
PER_KIND = 12
EPOCHS = 2


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the benchmarks measure on."""

    model: Path
    """The cloned agent, as `load_learner` takes it."""
    suite: TaskSuite
    tasks: Sequence[Task]
    experts: Sequence[Trajectory]
    explored: Sequence[Trajectory]

    def pairs(self, count: int, *, margin_turns: int = 5) -> list[Pair]:
        """The first `count` pairs by task id. Raises RuntimeError where there are fewer."""
        found = sorted(
            eto.contrast(self.experts, self.explored, ContrastSettings(margin_turns=margin_turns)),
            key=lambda p: p.task.id,
        )
        if len(found) < count:
            raise RuntimeError(f"only {len(found)} pairs, {count} wanted")
        return found[:count]


def prepared() -> Prepared:
    """The cached agent and its episodes; made in about four minutes where they are not there."""
    home = cache_dir() / "bench" / f"scienceworld-{PER_KIND}x{len(KINDS)}-{EPOCHS}"
    suite = eto.load_suite("scienceworld", kinds=list(KINDS))
    tasks = chosen_tasks(suite)
    if not (home / "explored.jsonl").exists():
        print("    preparing the agent that is measured (once, about four minutes)", flush=True)
        with atomic_directory(home) as fresh:
            experts = eto.collect_experts(suite, tasks)
            write_trajectories(fresh / "expert.jsonl", experts)
            policy = eto.load_learner("embedded")
            eto.sft(policy, experts, eto.SftSettings(epochs=EPOCHS, learning_rate=1e-4, batch_tokens=1000))
            policy.save(fresh / "model")
            write_trajectories(fresh / "explored.jsonl", eto.rollouts(policy.actor("sft"), suite, tasks))
    return Prepared(
        home / "model",
        suite,
        tasks,
        read_trajectories(home / "expert.jsonl"),
        read_trajectories(home / "explored.jsonl"),
    )


def chosen_tasks(suite: TaskSuite) -> list[Task]:
    """`PER_KIND` training tasks of each type, spread over the split."""
    chosen: list[Task] = []
    for kind in KINDS:
        tasks = [task for task in suite.tasks("train") if task.kind == kind]
        chosen += [tasks[number * len(tasks) // PER_KIND] for number in range(PER_KIND)]
    return chosen
