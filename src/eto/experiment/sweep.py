"""Settings varied one at a time, judged on dev tasks; no test task is played.

    base;  for each varied setting and each of its values: the base with that value alone

The variants of a seed share every stage before the first difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eto.errors import InputError
from eto.experiment.comparison_place import check_runs, held
from eto.experiment.experiment import TRAINED, perform
from eto.experiment.fork import FIRST_STAGE
from eto.experiment.recipe import Recipe, recipe_diff
from eto.experiment.sources import best_source, equal_recipes
from eto.experiment.watch import Watcher
from eto.methods import load_method

BASE = "base"
"""Label of the recipe as it is."""


@dataclass(slots=True)
class Variant:
    """A recipe of a sweep."""

    label: str
    """The setting and its value, `BASE` for the recipe as it is."""
    recipe: Recipe
    directories: list[Path] = field(default_factory=list)
    """Its finished runs, seed by seed."""

    @property
    def place(self) -> str:
        """Its directory within that of the sweep."""
        return "".join(c if c.isalnum() or c in "-._" else "-" for c in self.label).strip("-.")


def sweep(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    directory: Path,
    watch: Watcher,
    sources: Mapping[int, Path] | None = None,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Train every variant, the base first, with every seed in `directory`; what is finished stays.

    sources: seed -> a run outside from which stages may be taken. after_each: called when a variant is done
    with a seed and was not before; `Variant.directories` then has what there is. Raises `InputError` for a
    recipe without dev tasks and for variants that are equal, `RunConflict` where the directory holds other
    runs or is in use.
    """
    check_variants(variants)
    places = {each.place: each for each in variants}
    with held(directory, list(places)):
        recipes = {
            (seed, place): each.recipe.replace(
                seed=seed, run_directory=str(directory / place / f"seed-{seed}")
            )
            for seed in seeds
            for place, each in places.items()
        }
        check_runs(list(recipes.values()))
        for seed in seeds:
            begun = [source] if (source := (sources or {}).get(seed)) else []
            for place, each in places.items():
                recipe = recipes[seed, place]
                finished = (recipe.directory / "stages" / TRAINED / "DONE").exists()
                if not finished:
                    watch.say(f"{each.label}, seed {seed}: {recipe.directory}")
                    perform(recipe, source=best_source(recipe, begun), watch=watch, test=False)
                begun.append(recipe.directory)
                each.directories.append(recipe.directory)
                if not finished:
                    after_each()


def check_variants(variants: Sequence[Variant]) -> None:
    """Raises `InputError` where dev tasks are missing, two variants are equal or share a place, a setting
    that only the test reads is varied, or the method is judged on test tasks."""
    for number, one in enumerate(variants):
        if load_method(one.recipe.method.name).best_of is not None:
            problem = f"{one.recipe.method.name} is judged on test tasks, and a sweep plays none"
            raise InputError(problem, where="method.name", hint="take another method, or `eto compare`")
        if one.recipe.tasks.dev_per_kind == 0:
            hint = "give it some: a sweep is judged on them"
            raise InputError("there are no dev tasks", where="tasks.dev_per_kind", hint=hint)
        for line in recipe_diff(variants[0].recipe, one.recipe):
            if FIRST_STAGE.get(line.split(":")[0]) == "test":
                problem = f"{one.label} changes nothing: a sweep plays no test task"
                raise InputError(problem, where="--vary", hint="leave it out")
        for other in variants[:number]:
            if equal_recipes(one.recipe, other.recipe):
                what = "the recipe's own value" if other.label == BASE else f"equal to {other.label}"
                raise InputError(f"{one.label} is {what}", where="--vary", hint="leave it out")
            if one.place == other.place:
                problem = f"{one.label} and {other.label} would share a directory"
                raise InputError(problem, where="--vary", hint="write one of the values otherwise")
