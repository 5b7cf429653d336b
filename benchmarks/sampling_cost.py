"""What episodes it took to reach a dev reward: finished runs of any method beside each other.

    python -m benchmarks.sampling_cost RUN [RUN ...] [--reward R]

For each run and each of its agents in their order: dev reward with its interval, and the episodes,
environment steps and generated tokens of exploring that came before it; dev and test episodes are left out.
Then the first agent of each run that reached R on dev, and what that took; without --reward, R is the best
dev reward that all the runs reach.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eto.data.files import read_rows
from eto.data.store import TrajectoryStore
from eto.errors import EtoError, InputError
from eto.evaluation.results import read_stages
from eto.evaluation.table import markdown_table
from eto.experiment.recipe import recipe_of_run
from eto.methods import declared_stages
from eto.types import Phase


@dataclass(frozen=True, slots=True)
class Point:
    """An agent on dev, and what was sampled before it was measured."""

    agent: str
    reward: float
    low: float | None
    high: float | None
    episodes: int
    steps: int
    tokens: int


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sampling_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--reward", type=float)
    given = parser.parse_args()
    try:
        print(report({str(run): points(run) for run in given.runs}, given.reward))
    except EtoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def points(run: Path) -> list[Point]:
    """The agents of a run that played dev, with what was sampled up to then. Raises `InputError` where none
    did."""
    measured = {row["agent"]: row for row in read_rows(run / "metrics.jsonl") if row["stage"] == "dev"}
    recipe = recipe_of_run(run)
    noted = {stage["stage"]: stage.get("phases", ()) for stage in read_stages(run)}
    sampled = [0, 0, 0]
    found = []
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        for stage in declared_stages(recipe.method):
            for phase in map(Phase.parse, noted.get(stage.name, ())):
                if phase.purpose == "evaluate" and phase.split == "dev" and phase.name in measured:
                    row = measured[phase.name]
                    found.append(Point(phase.name, row["reward"], row.get("low"), row.get("high"), *sampled))
                elif phase.purpose not in ("expert", "evaluate"):
                    for episode in store.get(phase):
                        sampled[0] += 1
                        sampled[1] += len(episode.turns)
                        sampled[2] += sum(len(turn.log_probs or ()) for turn in episode.turns)
    if not found:
        raise InputError("no agent of the run played dev", where=str(run), hint="give the run dev tasks")
    return found


def first_to_reach(found: Sequence[Point], reward: float) -> Point | None:
    """The first agent of at least this dev reward."""
    return next((point for point in found if point.reward >= reward), None)


def report(runs: Mapping[str, Sequence[Point]], reward: float | None = None) -> str:
    """A table of all runs, and what reaching the reward took in each."""
    rows = []
    for name, found in runs.items():
        for point in found:
            numbers = (point.reward, point.low, point.high)
            dev = tuple(f"{number:.3f}" for number in numbers if number is not None)
            counts = [(f"{count:,}",) for count in (point.episodes, point.steps, point.tokens)]
            rows.append([(name,), (point.agent,), dev, *counts])
    header = ["run", "agent", "dev reward", "episodes", "environment steps", "generated tokens"]
    if reward is None:
        reward = min(max(point.reward for point in found) for found in runs.values())
    lines = [markdown_table(header, rows), ""]
    for name, found in runs.items():
        first = first_to_reach(found, reward)
        took = (
            "not reached"
            if first is None
            else f"{first.agent}, {first.episodes:,} episodes, {first.steps:,} steps"
        )
        lines.append(f"- {name}: dev reward {reward:.3f}: {took}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
