"""What a comparison needs of one run: its agent's figures by task, and its costs; small enough to be kept
and sent where the run itself, with its models, is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from eto.data.store import TrajectoryStore
from eto.evaluation import statistics
from eto.evaluation.costs import Costs, costs_of
from eto.evaluation.pooled import shipped_episodes
from eto.experiment.recipe import recipe_of_run
from eto.methods import load_method
from eto.types import Trajectory

FIGURES: Mapping[str, statistics.Value] = {"reward": statistics.reward, "success": statistics.success}
"""What is compared."""
EpisodesOf = Callable[[Path, str], tuple[str, list[Trajectory]]]
"""Which agent of a run counts, and its episodes on a split."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one agent of one run did."""

    seed: int
    run: str
    """The run's directory within that of the comparison; equal where two labels have one run."""
    agent: str
    by_reward: bool
    """The figures are those of episodes that were chosen by their reward."""
    values: Mapping[str, Mapping[str, float]]
    """Name of `FIGURES` -> task id -> the mean over its episodes, where one counts."""
    costs: Costs


def outcome_of(
    directory: Path, place: Path, split: str = "test", episodes_of: EpisodesOf = shipped_episodes
) -> Outcome:
    """The outcome of the run in `directory`, of a comparison in `place`; of a method that chooses by reward,
    that of the episodes it chose. Raises `InputError` for a run that is not finished."""
    recipe = recipe_of_run(directory)
    agent, episodes = episodes_of(directory, split)
    phase = load_method(recipe.method.name).best_of
    if phase is not None:
        with TrajectoryStore(directory / "trajectories.sqlite", read_only=True) as store:
            episodes = best_of_each(store.get(phase))
    return Outcome(
        seed=recipe.seed,
        run=directory.relative_to(place).as_posix(),
        agent=agent,
        by_reward=phase is not None,
        values={name: statistics.by_task(episodes, value) for name, value in FIGURES.items()},
        costs=costs_of(directory),
    )


def best_of_each(episodes: Iterable[Trajectory]) -> list[Trajectory]:
    """Of each task the episode with the highest reward, of equals the first."""
    best: dict[str, Trajectory] = {}
    for episode in episodes:
        kept = best.setdefault(episode.task.id, episode)
        if episode.reward > kept.reward:
            best[episode.task.id] = episode
    return list(best.values())
