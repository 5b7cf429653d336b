"""Methods compared under one budget: each recipe with several seeds, beside the controls that decide what a
method is worth.

Two controls stand beside every recipe whose method does more than clone: cloning all the expert data that
the recipe has, and cloning the part that it clones for as many training tokens as its whole training took.
A method may declare others (`Method.controls`). Runs of one seed share what is equal: experts, the cloned
agent, what it explored, its test; of equal controls one is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eto.errors import InputError
from eto.evaluation.costs import training_tokens
from eto.experiment.comparison_place import check_comparable, check_runs, held
from eto.experiment.experiment import perform
from eto.experiment.recipe import Recipe
from eto.experiment.sources import best_source, equal_recipes
from eto.experiment.watch import Watcher
from eto.methods import load_method
from eto.methods.sft import CloningSettings
from eto.settings import SftSettings

ALL_EXPERTS, SAME_TOKENS = "all experts cloned", "cloned for as many tokens"
_DIRECTORIES = {ALL_EXPERTS: "all-experts", SAME_TOKENS: "same-tokens"}
CONTROLS = (*_DIRECTORIES.values(), "own")
"""What controls are asked for by; `own`: those that the method declares."""


@dataclass(slots=True)
class Entry:
    """A recipe of a comparison, or one of its controls."""

    label: str
    """What it is in tables: the recipe's name, that and the control's."""
    of: str
    """The label of the recipe; its own where it is no control."""
    control: str = ""
    """Which control it is; "" for a recipe of the user's."""
    directories: list[Path] = field(default_factory=list)
    """Its run of each seed so far. Equal controls have equal ones."""
    own_clone: bool = False
    """It is the agent that the recipe's method clones first."""


def compare(
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    directory: Path,
    watch: Watcher,
    after_each: Callable[[Mapping[str, Entry]], None] = lambda entries: None,
    controls: Collection[str] | None = None,
) -> dict[str, Entry]:
    """Run every recipe and its controls with every seed in `directory`; label -> its runs, seed by seed.

    What is finished stays; an interrupted comparison is resumed by the same call. after_each: called with
    what there is so far whenever a recipe and its controls are done with a seed and were not before.
    controls: those of `CONTROLS` to run; None: all that each recipe has.

    Raises `InputError` for recipes that share a name or differ in their environment or test tasks and for
    controls that no recipe has, `RunConflict` where the directory holds other runs or is in use.
    """
    check_comparable(recipes)
    _check_controls(controls or (), recipes)
    placed = {seed: [_with_seed(recipe, seed, directory) for recipe in recipes] for seed in seeds}
    entries = {recipe.name: Entry(recipe.name, recipe.name) for recipe in recipes}
    with held(directory, [recipe.name for recipe in recipes]):
        check_runs([recipe for group in placed.values() for recipe in group])
        for group in placed.values():
            made: list[Recipe] = []
            # Plain cloning first: it may be the control of others.
            for recipe in sorted(group, key=lambda recipe: not isinstance(recipe.method, CloningSettings)):
                wanted = CONTROLS if controls is None else controls
                if _run_beside_controls(recipe, made, entries, watch, wanted):
                    after_each(entries)
    return entries


def _with_seed(recipe: Recipe, seed: int, directory: Path) -> Recipe:
    return recipe.replace(seed=seed, run_directory=str(directory / recipe.name / f"seed-{seed}"))


def _run_beside_controls(
    recipe: Recipe,
    made: list[Recipe],
    entries: dict[str, Entry],
    watch: Watcher,
    controls: Collection[str],
) -> bool:
    """Perform the recipe and those of its `controls` that no run `made` of this seed is equal to; whether any
    of them was not finished before."""
    anew = _perform(recipe, recipe.name, made, watch)
    entries[recipe.name].directories.append(recipe.directory)
    cloning = _cloning_of(recipe)
    for name, control in controls_of(recipe, controls):
        label = f"{recipe.name}: {name}"
        entry = entries.setdefault(label, Entry(label, recipe.name, name))
        entry.own_clone = cloning is not None and equal_recipes(
            control, recipe.replace(method=CloningSettings(sft=cloning))
        )
        equal = next((each for each in made if equal_recipes(each, control)), None)
        if equal is None:
            anew |= _perform(control, label, made, watch)
        entry.directories.append((equal or control).directory)
    return anew


def _check_controls(controls: Collection[str], recipes: Sequence[Recipe]) -> None:
    """Raises `InputError` for a control that is none, or that no recipe has."""
    for name in controls:
        if name not in CONTROLS:
            hint = f"controls: {', '.join(CONTROLS)}"
            raise InputError(f"there is no control {name!r}", where="eto compare", hint=hint)
        if not any(name in _has(recipe) for recipe in recipes):
            there = [each for each in CONTROLS if any(each in _has(recipe) for recipe in recipes)]
            problem = f"no recipe here has the control {name!r}"
            raise InputError(
                problem, where="eto compare", hint=f"controls here: {', '.join(there) or 'none'}"
            )


def _has(recipe: Recipe) -> set[str]:
    """Which of `CONTROLS` stand beside a recipe. None where it only clones, or where its figure is no
    agent's; without experts the method's own alone."""
    method = load_method(recipe.method.name)
    if isinstance(recipe.method, CloningSettings) or method.best_of is not None:
        return set()
    cloned = _cloning_of(recipe) is not None and recipe.tasks.experts_per_kind != 0
    return {*(_DIRECTORIES.values() if cloned else ()), *(["own"] if method.controls else ())}


def controls_of(recipe: Recipe, controls: Collection[str]) -> Iterator[tuple[str, Recipe]]:
    """Name and recipe of each of the `controls` that a recipe has, whose run is finished, for its training
    tokens are theirs."""
    cloning, method = _cloning_of(recipe), load_method(recipe.method.name)
    wanted = _has(recipe) & {*controls}
    if not wanted:
        return
    tokens = training_tokens(recipe.directory)
    if not tokens:
        hint = "delete its directory: this version notes them"
        problem = "the run does not say how many tokens it trained on"
        raise InputError(problem, where=str(recipe.directory), hint=hint)

    def control(name: str, **changes: object) -> tuple[str, Recipe]:
        home = re.sub(r"[^A-Za-z0-9]+", "-", _DIRECTORIES.get(name, name)).strip("-")
        place = recipe.directory.parent / f"{home}-seed-{recipe.seed}"
        return name, recipe.replace(**changes, run_directory=str(place))

    if cloning is not None and "all-experts" in wanted:
        everything = recipe.tasks.replace(explore_unseen=0.0)
        yield control(ALL_EXPERTS, method=CloningSettings(sft=cloning), tasks=everything)
    if cloning is not None and "same-tokens" in wanted:
        longer = cloning.replace(epochs=as_many_epochs(cloning.epochs, tokens))
        yield control(SAME_TOKENS, method=CloningSettings(sft=longer))
    own = method.controls(recipe.method, tokens) if method.controls and "own" in wanted else {}
    for name, settings in own.items():
        yield control(name, method=settings)


def as_many_epochs(epochs: int, tokens: Mapping[str, int]) -> int:
    """Epochs of cloning that pass as many tokens as a whole training, of which the first stage cloned for
    `epochs`; `tokens` by stage, in order."""
    return max(1, round(sum(tokens.values()) * epochs / next(iter(tokens.values()))))


def _cloning_of(recipe: Recipe) -> SftSettings | None:
    """How the recipe's method clones; None where it has no section for that."""
    sections = (getattr(recipe.method, name) for name in type(recipe.method).model_fields)
    return next((each for each in sections if isinstance(each, SftSettings)), None)


def _perform(recipe: Recipe, label: str, made: list[Recipe], watch: Watcher) -> bool:
    """Run it unless it is finished, with what it can take from the runs `made` before; those end with it."""
    finished = (recipe.directory / "stages" / "test" / "DONE").exists()
    if not finished:
        watch.say(f"{label}, seed {recipe.seed}: {recipe.directory}")
        source = best_source(recipe, [each.directory for each in made])
        perform(recipe, source=source, watch=watch, share_tests=True)
    made.append(recipe)
    return not finished
