"""Runs that a new run can take stages from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eto.errors import InputError, RunConflict
from eto.experiment.fork import forkable_stages
from eto.experiment.recipe import Recipe, free_fields, recipe_diff
from eto.experiment.run_records import read_manifest


def equal_recipes(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes train the same agents: they differ in free fields at most."""
    free = free_fields(one) | free_fields(other)
    return all(line.split(":")[0] in free for line in recipe_diff(one, other))


def best_source(recipe: Recipe, finished: Sequence[Path]) -> Path | None:
    """Of the `finished` runs the one from which a run of `recipe` can take most stages; of a run that has
    begun, the one that it took from. None where there is none."""
    if (recipe.directory / "manifest.json").exists():
        taken = read_manifest(recipe.directory).get("taken_from")
        begun = any((recipe.directory / "stages").iterdir())
        if taken or begun:
            finished = [path for path in finished if taken and path == Path(taken["directory"])]
    stages: dict[Path, int] = {}
    for path in finished:
        try:
            stages[path] = len(forkable_stages(path, recipe))
        except (InputError, RunConflict):
            continue
    return max(stages, key=lambda path: stages[path], default=None)
