"""ScienceWorld's experts, type by type: how many tasks have one, and whether it fits into the cap of turns.

    python -m benchmarks.science_experts [--tasks 8] [KIND ...] [OPTION=VALUE ...]

Training variations evenly spread over each type's list; a Markdown table on standard output. A type's
cap of turns is judged by it: see `RAISED_CAPS` in `src/eto/environments/scienceworld/kinds.py`.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import closing

import yaml

from benchmarks.experts import spread
from eto.environments.hosting.host import verified_expert
from eto.environments.scienceworld.kinds import KINDS
from eto.environments.scienceworld.suite import ScienceWorld
from eto.types import Trajectory

ENDLESS = 10_000
HEADER = ("task type", "cap", "experts", "longer than the cap", "none", "turns, median", "longest")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.science_experts", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="KIND or OPTION=VALUE")
    parser.add_argument("--tasks", type=int, default=8)
    given = parser.parse_args()
    options = dict(name.split("=", 1) for name in given.names if "=" in name)
    options = {name: yaml.safe_load(value) for name, value in options.items()}
    kinds = [name for name in given.names if "=" not in name] or list(KINDS)
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    for kind in kinds:
        print(f"| {' | '.join(map(str, row(kind, given.tasks, options)))} |", flush=True)


def row(kind: str, count: int, options: dict[str, object]) -> tuple[object, ...]:
    """The figures of one type, in the order of `HEADER`."""
    suite = ScienceWorld(kinds=[kind], **options)
    free = ScienceWorld(kinds=[kind], **(options | {"max_turns": ENDLESS}))
    tasks = spread(suite.tasks("train"), count)
    kept, longer = [], []
    with closing(suite.environment()) as environment:
        for task in tasks:
            found = verified_expert(suite, environment, task)
            if isinstance(found, Trajectory):
                kept.append(len(found.turns))
            elif isinstance(found := verified_expert(free, environment, task), Trajectory):
                longer.append(len(found.turns))
    turns = sorted(kept + longer)
    middle, most = (round(statistics.median(turns)), turns[-1]) if turns else ("–", "–")
    none = len(tasks) - len(turns)
    return (
        f"`{kind}`",
        suite.max_turns(tasks[0]),
        f"{len(kept)} of {len(tasks)}",
        len(longer),
        none,
        middle,
        most,
    )


if __name__ == "__main__":
    main()
