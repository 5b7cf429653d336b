"""Methods side by side: reward with its interval, differences to the controls, and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from eto.data.store import TrajectoryStore
from eto.evaluation import statistics
from eto.evaluation.costs import Costs, costs_of
from eto.evaluation.crossed import seed_bounds
from eto.evaluation.pooled import shipped_episodes
from eto.experiment.recipe import load_recipe
from eto.methods import load_method
from eto.types import Phase, Trajectory

FIGURES: Mapping[str, statistics.Value] = {"reward": statistics.reward, "success": statistics.success}
"""What is compared."""


def compared(
    runs: Mapping[str, Sequence[Path]],
    controls: Mapping[str, Mapping[str, str]],
    split: str = "test",
    episodes_of: Callable[[Path, str], tuple[str, list[Trajectory]]] = shipped_episodes,
) -> dict[str, Any]:
    """For each label an agent of each of its runs, pooled over seeds, with costs and, by the control's
    name, the paired differences. episodes_of: which agent of a run, and its episodes on `split`.

    Keys of a row: `seeds` (how many), `agents` (by seed), `figures` (`Summary.to_dict`), `by_reward`
    (the figure is that of episodes chosen by their reward), `costs` (means of `Costs` over seeds), `same_as`
    (the label that stands for the same runs, a recipe's where there is one; "" where it is its own),
    `differences` (control -> figure -> `Difference` over the tasks of these seeds, with `seeds_low` and
    `seeds_high`, bounds over tasks and seeds, and `each`, seed by seed). runs: a label's runs seed by seed,
    without a gap; a label may have fewer seeds than others.
    controls: label -> control's name -> the control's label. Raises `InputError` for a run that is not
    finished.
    """
    table: dict[str, Any] = {}

    @lru_cache(None)
    def counted(directory: Path) -> tuple[str, Sequence[Trajectory]]:
        return _counted(directory, split, episodes_of)

    of_others = {label for each in controls.values() for label in each.values()}
    named = sorted(runs, key=lambda label: label in of_others)  # recipes before controls
    for label, directories in runs.items():
        if not directories:
            continue
        played = [counted(directory) for directory in directories]
        costs = [costs_of(directory) for directory in directories]
        episodes = [episode for _, of_seed in played for episode in of_seed]
        same = (other for other in named if list(runs[other]) == list(directories))
        table[label] = {
            "seeds": len(directories),
            "agents": [agent for agent, _ in played],
            "by_reward": _best_of(directories[0]) is not None,
            "figures": statistics.summarise(episodes, unfinished=True).to_dict(),
            "costs": {name: _mean(costs, name) for name in Costs.__slots__},
            "same_as": "" if (first := next(same)) == label else first,
            "differences": {
                control: _differences(
                    [of_seed for _, of_seed in played], [counted(each)[1] for each in runs[other]]
                )
                for control, other in controls.get(label, {}).items()
                if runs.get(other)
            },
        }
    return table


def _differences(
    ours: Sequence[Sequence[Trajectory]], theirs: Sequence[Sequence[Trajectory]]
) -> dict[str, dict[str, Any]]:
    """Figure -> ours minus theirs, seed by seed paired, of the seeds that both have."""
    found = {}
    for name, value in FIGURES.items():
        pairs = [
            (statistics.by_task(one, value), statistics.by_task(other, value))
            for one, other in zip(ours, theirs, strict=False)
        ]
        found[name] = {
            **statistics.pooled_difference(pairs).to_dict(),
            **seed_bounds(pairs),
            "each": [statistics.paired_difference(*pair, resamples=2).to_dict()["mean"] for pair in pairs],
        }
    return found


def _counted(
    directory: Path, split: str, episodes_of: Callable[[Path, str], tuple[str, list[Trajectory]]]
) -> tuple[str, Sequence[Trajectory]]:
    """The agent of a run and its episodes; of a method that chooses by reward, those it chose."""
    agent, episodes = episodes_of(directory, split)
    phase = _best_of(directory)
    if phase is None:
        return agent, episodes
    with TrajectoryStore(directory / "trajectories.sqlite", create=False) as store:
        return agent, best_of_each(store.get(phase))


def best_of_each(episodes: Iterable[Trajectory]) -> list[Trajectory]:
    """Of each task the episode with the highest reward, of equals the first."""
    best: dict[str, Trajectory] = {}
    for episode in episodes:
        kept = best.setdefault(episode.task.id, episode)
        if episode.reward > kept.reward:
            best[episode.task.id] = episode
    return list(best.values())


def _best_of(directory: Path) -> Phase | None:
    return load_method(load_recipe(directory / "recipe.yaml", note=False).method.name).best_of


def _mean(costs: Sequence[Costs], name: str) -> float:
    return sum(getattr(each, name) for each in costs) / len(costs)
