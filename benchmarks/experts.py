"""Every environment that is installed: tasks its expert solves in replay, and steps a second of that replay.

One process, one environment at a time, `step` alone is timed. Beside each stands what the original
makes of it, where another benchmark here or its authors say.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from benchmarks.frame import Outcome, Row
from eto.environments import load_suite
from eto.environments.textworld_express.suite import GAMES
from eto.errors import MissingRequirement
from eto.protocols import TaskSuite
from eto.types import Task

TASKS = 24
SETTINGS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "scienceworld": ("scienceworld", {}),
    "alfworld": ("alfworld", {}),
    "alfworld, planner": ("alfworld", {"expert": "planner"}),
    "webshop, 1,000 products": ("webshop", {"products": 1000}),
    **{f"textworld-express, {game}": ("textworld-express", {"game": game}) for game in GAMES},
    **{
        f"textworld, {game}": ("textworld", {"game": game})
        for game in ("coin", "treasure", "cooking", "simple")
    },
}


def run(quick: bool) -> Outcome:
    found, notes = [], []
    for title, (name, options) in SETTINGS.items():
        try:
            suite = load_suite(name, **options)
        except MissingRequirement as error:
            notes.append(f"{title} was not played: {error.problem}.")
            continue
        tasks = spread(suite.tasks("train"), 4 if quick else TASKS)
        solved, tried, rate = replayed(suite, tasks)
        share = 100 * solved / tried
        found.append(Row(title, f"% of {tried} tasks solved", share, share, share, 1))
        found.append(Row(title, "steps/s", rate, rate, rate, 1))
        print(f"    {title}: {solved} of {tried}, {rate:.0f} steps/s", flush=True)
    return Outcome(
        title="Experts",
        setting="Training tasks, evenly spread over each suite's list, with its default options but for what "
        "is named; one replay of each, one environment in this process.",
        rows=found,
        notes=notes,
    )


def spread(tasks: list[Task], count: int) -> list[Task]:
    """`count` tasks at equal distances."""
    return [tasks[number * len(tasks) // count] for number in range(min(count, len(tasks)))]


def replayed(suite: TaskSuite, tasks: list[Task]) -> tuple[int, int, float]:
    """Tasks solved, tasks tried, and steps a second, of one replay of the expert's actions each."""
    solved = steps = 0
    seconds = 0.0
    with closing(suite.environment()) as environment:
        for task in tasks:
            actions = suite.expert_actions(task, environment) or ()
            environment.reset(task)
            for action in actions:
                begun = time.perf_counter()
                step = environment.step(action)
                seconds += time.perf_counter() - begun
                steps += 1
                if step.terminated:
                    solved += bool(step.success)
                    break
    return solved, len(tasks), steps / max(seconds, 1e-9)
