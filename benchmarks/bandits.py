"""Exploration of bandits: the algorithms alone, or agents of runs beside them on the same tasks.

    python -m benchmarks.bandits [--trials 30] [--kinds KIND ...]  # the paper's task types
    python -m benchmarks.bandits --run runs/bandit [--episodes NAME=FILE]  # a run's agents on its test tasks

`--episodes` adds trajectories that `eto evaluate --out FILE` wrote, for example of the model before training.
Tables go to standard output, as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.page import table
from eto.data.formats import read_trajectories
from eto.data.store import TrajectoryStore
from eto.environments import load_suite
from eto.environments.bandit.figures import Floats, win_rates
from eto.environments.bandit.games import Bandit, played
from eto.environments.bandit.measured import Exploration, explored, measured
from eto.environments.bandit.oracles import Oracle, Uniform, oracle
from eto.environments.bandit.suite import Bandits
from eto.errors import EtoError, InputError
from eto.evaluation.statistics import mean_interval
from eto.experiment.compose import suite_of
from eto.experiment.recipe import recipe_of_run
from eto.types import Phase, Task, Trajectory

TRIALS = 30
"""Of each task type, as in the paper."""
ALL = (
    *(
        f"{family}-{level}-{arms}-video"
        for family in ("bernoulli", "gaussian")
        for level in ("easy", "hard")
        for arms in (5, 20)
    ),
    "ratings-10",
    "ratings-30",
)
"""The paper's, but for the other names of arms, which mean nothing to an algorithm."""
ORACLES: Mapping[str, Callable[[Bandit, int], Oracle]] = {
    "UCB, LinUCB": lambda bandit, seed: oracle(bandit.arms, bandit.dimensions),
    "greedy": lambda bandit, seed: oracle(bandit.arms, bandit.dimensions, alpha=0.0),
    "random": lambda bandit, seed: Uniform(bandit.arms, seed),
}
Found = dict[str, dict[str, Exploration]]
"""Agent -> task type -> figures."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bandits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=int, default=TRIALS, help="bandits of each type")
    parser.add_argument("--kinds", nargs="+", default=list(ALL), metavar="KIND")
    parser.add_argument("--horizon", type=int, help="pulls; the paper's where not given")
    parser.add_argument("--run", type=Path, help="directory of a run on bandits")
    parser.add_argument("--episodes", action="append", default=[], metavar="NAME=FILE")
    given = parser.parse_args()
    if given.episodes and not given.run:
        parser.error("--episodes needs --run, whose tasks they are of")
    if given.trials < 2:
        parser.error("--trials: at least 2")
    try:
        if given.run:
            found = of_run(given.run, given.episodes)
        else:
            found = of_oracles(given.kinds, given.trials, given.horizon)
    except EtoError as error:
        sys.exit(f"error: {error}")
    print("\n\n".join(report(found)))


def of_oracles(kinds: Sequence[str], trials: int, horizon: int | None = None) -> Found:
    """The algorithms on the first `trials` test tasks of each type."""
    suite = load_suite("bandit", kinds=list(kinds), tasks_per_split=trials, horizon=horizon)
    assert isinstance(suite, Bandits)
    return on(suite, suite.tasks("test"))


def on(suite: Bandits, tasks: Sequence[Task]) -> Found:
    """The algorithms on `tasks`."""
    bandits = [(task.kind, suite.bandit(task)) for task in tasks]
    found: Found = {}
    for name, make in ORACLES.items():
        episodes: dict[str, list[tuple[Bandit, Sequence[int], int]]] = {}
        for seed, (kind, bandit) in enumerate(bandits):
            episodes.setdefault(kind, []).append((bandit, played(bandit, make(bandit, seed)), 0))
        found[name] = {kind: explored(kind, group) for kind, group in episodes.items()}
    return found


def of_run(directory: Path, episodes: Sequence[str]) -> Found:
    """A run's agents on its test tasks, `episodes` (NAME=FILE) on the same, and the algorithms."""
    suite = suite_of(recipe_of_run(directory))
    if not isinstance(suite, Bandits):
        raise InputError("is not a run on bandits", where=str(directory), hint="name another")
    by_agent: dict[str, list[Trajectory]] = {}
    for each in episodes:
        name, _, file = each.partition("=")
        by_agent[name] = read_trajectories(file)
    with TrajectoryStore(directory / "trajectories.sqlite", read_only=True) as store:
        for phase in store.phases():
            if phase == Phase.evaluate(phase.name, "test"):
                by_agent[phase.name] = store.get(phase)
    if not by_agent:
        raise InputError("has no test episodes yet", where=str(directory), hint="let the run end first")
    ordered = {
        name: sorted((t for t in played if t.turns), key=lambda t: t.task.id)
        for name, played in by_agent.items()
    }
    tasks = {trajectory.task.id: trajectory.task for trajectory in next(iter(ordered.values()))}
    agents: Found = {name: measured(suite, played) for name, played in ordered.items()}
    return agents | on(suite, list(tasks.values()))


def report(found: Found) -> Iterator[str]:
    """Tables of figures and of win rates."""
    head = ("task type", "agent", "OptFrac", "MinFrac", "regret", "α", "β", "reward", "no arm named")
    kinds = list(next(iter(found.values())))
    yield table(head, [(kind, *row(agent, found[agent][kind])) for kind in kinds for agent in found])
    groups = {"without users": [k for k in kinds if not k.startswith("ratings")]}
    groups["with users"] = [k for k in kinds if k.startswith("ratings")]
    cells = []
    for name, group in groups.items():
        if group:
            scores = {agent: {kind: list(of[kind].reward) for kind in group} for agent, of in found.items()}
            cells += [(agent, name, f"{100 * rate:.0f}%") for agent, rate in win_rates(scores).items()]
    yield table(("agent", "task types", "win rate"), cells)


def row(agent: str, found: Exploration) -> tuple[str, ...]:
    """A line of the table of figures; means with 95% intervals over trials."""
    curve = found.curve()
    fitted = ("", "") if curve is None else (f"{curve.power:.2f}", f"{curve.slope:.4f}")
    shares = (found.best, found.least)
    return (
        agent,
        *(interval(share, 3) for share in shares),
        interval(found.regret[:, -1], 1),
        *fitted,
        interval(found.reward, 3),
        f"{100 * found.invalid.mean():.0f}%",
    )


def interval(values: Floats, digits: int) -> str:
    """`0.812 [0.79, 0.83]`."""
    of = mean_interval([float(value) for value in values])
    return f"{of.mean:.{digits}f} [{of.low:.{digits}f}, {of.high:.{digits}f}]"


if __name__ == "__main__":
    main()
