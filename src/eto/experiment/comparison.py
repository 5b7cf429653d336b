"""Methods compared under one budget: each recipe with several seeds, beside the controls that decide what a
method is worth.

Two controls stand beside every recipe whose method does more than clone: cloning all the expert data that
the recipe has, and cloning the part that it clones for as many training tokens as its whole training took.
Runs of one seed share what is equal, such as the experts and the cloned agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eto.errors import InputError, RunConflict
from eto.evaluation.costs import training_tokens
from eto.experiment.experiment import perform
from eto.experiment.fork import forkable_stages
from eto.experiment.recipe import Recipe
from eto.experiment.watch import Watcher
from eto.methods.sft import CloningSettings
from eto.settings import SftSettings

ALL_EXPERTS, SAME_TOKENS = "all experts cloned", "cloned for as many tokens"


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of a comparison."""

    label: str
    """What it is in tables: the recipe's name, that and the control's."""
    recipe: Recipe
    control: str = ""
    """Which control it is, and of which recipe: "" for a recipe of the user's."""


def compare(
    recipes: Sequence[Recipe], seeds: Sequence[int], directory: Path, watch: Watcher
) -> dict[str, list[Entry]]:
    """Run every recipe and its controls with every seed in `directory`; label -> its runs, seed by seed.

    What is finished stays; an interrupted comparison is resumed by the same call. Raises `InputError` for
    recipes that share a name or differ in their environment or test tasks.
    """
    _check_comparable(recipes)
    entries: dict[str, list[Entry]] = {}
    for seed in seeds:
        finished: list[Path] = []
        for recipe in recipes:
            for entry in _with_controls(recipe, seed, directory):
                watch.say(f"{entry.label}, seed {seed}: {entry.recipe.directory}")
                perform(entry.recipe, source=_shared(entry.recipe, finished), watch=watch)
                finished.append(entry.recipe.directory)
                entries.setdefault(entry.label, []).append(entry)
    return entries


def _with_controls(recipe: Recipe, seed: int, directory: Path) -> Iterator[Entry]:
    """The recipe with a seed, and its controls; those come after it, for its training tokens are theirs."""
    home = directory / recipe.name
    own = recipe.replace(seed=seed, run_directory=str(home / f"seed-{seed}"))
    yield Entry(recipe.name, own)
    sections = (getattr(recipe.method, name) for name in type(recipe.method).model_fields)
    cloning = next((each for each in sections if isinstance(each, SftSettings)), None)
    if isinstance(recipe.method, CloningSettings) or cloning is None:
        return
    everything = own.tasks.replace(explore_unseen=0.0)
    yield Entry(
        f"{recipe.name}: {ALL_EXPERTS}",
        own.replace(
            method=CloningSettings(sft=cloning),
            tasks=everything,
            run_directory=str(home / f"all-experts-seed-{seed}"),
        ),
        ALL_EXPERTS,
    )
    yield Entry(
        f"{recipe.name}: {SAME_TOKENS}",
        own.replace(
            method=CloningSettings(sft=cloning.replace(epochs=_as_many_epochs(own, cloning))),
            run_directory=str(home / f"same-tokens-seed-{seed}"),
        ),
        SAME_TOKENS,
    )


def _as_many_epochs(recipe: Recipe, cloning: SftSettings) -> int:
    """Epochs of cloning that pass as many tokens as the whole training of a finished run."""
    tokens = training_tokens(recipe.directory)
    first = next(iter(tokens.values()), 0)
    if not first:
        raise InputError(
            "the run does not say how many tokens it trained on",
            where=str(recipe.directory),
            hint="delete its directory: this version notes them",
        )
    return max(1, round(sum(tokens.values()) * cloning.epochs / first))


def _shared(recipe: Recipe, finished: Sequence[Path]) -> Path | None:
    """The finished run that a new one can take most stages from; None where it has begun, or none has any."""
    if recipe.directory.exists():
        return None
    stages: dict[Path, int] = {}
    for path in finished:
        try:
            stages[path] = len(forkable_stages(path, recipe))
        except (InputError, RunConflict):
            continue
    return max(stages, key=lambda path: stages[path], default=None)


def _check_comparable(recipes: Sequence[Recipe]) -> None:
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise InputError("two recipes have one name", where="eto compare", hint="set `name` in each")
    first = recipes[0]
    for other in recipes[1:]:
        if (other.environment.name, other.environment.options) != (
            first.environment.name,
            first.environment.options,
        ) or other.tasks.test_per_kind != first.tasks.test_per_kind:
            raise InputError(
                f"{first.name} and {other.name} are tested on different tasks",
                where="eto compare",
                hint="give them one environment, with the same options, and one tasks.test_per_kind",
            )
