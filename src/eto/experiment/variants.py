"""One recipe with several methods, each with its own defaults and all else equal."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eto.errors import InputError
from eto.experiment.recipe import Recipe
from eto.methods import METHODS, declared_stages, load_method
from eto.protocols import Stage
from eto.settings import MethodSettings, SftSettings

ALL = "all"
"""In place of names: every method that can run on the recipe."""


def with_method(recipe: Recipe, name: str) -> Recipe:
    """The recipe with the method `name`, and called so. Its own method stays as it is; another has its
    defaults, but clones as the recipe does and, where the recipe says how to explore, explores so.

    Raises `InputError` where the recipe lacks what the method needs.
    """
    if name == recipe.method.name:
        return recipe.replace(name=name)
    settings = load_method(name).settings
    given = dict(_taken_over(recipe.method, settings))
    return recipe.replace(name=name, method=settings(**{"name": name, **given}))


def with_methods(recipe: Recipe, names: Sequence[str]) -> tuple[list[Recipe], dict[str, str]]:
    """The recipe with each of the methods `names`, and method -> why it is left out, which only those of
    `all` are.

    Raises `InputError` for an unknown name, and where the recipe lacks what a named method needs.
    """
    for name in names:
        if name != ALL and name not in list(METHODS):
            near = difflib.get_close_matches(name, [*METHODS, ALL], n=1)
            hint = f"did you mean {near[0]}?" if near else f"methods: {', '.join(sorted(METHODS))}, or {ALL}"
            raise InputError(f"unknown method {name!r}", where="--methods", hint=hint)
    recipes: list[Recipe] = []
    unable: dict[str, str] = {}
    for name in dict.fromkeys([*sorted(METHODS)] if ALL in names else names):
        try:
            recipes.append(with_method(recipe, name))
        except InputError as error:
            unable[name] = error.problem
    refused = [f"{name}: {unable[name]}" for name in names if name in unable]
    if refused or not recipes:
        raise InputError(
            "methods that cannot run on the recipe\n  " + "\n  ".join(refused or unable.values()),
            where="--methods",
            hint="change the recipe, or leave them out",
        )
    return recipes, unable


def _taken_over(ours: MethodSettings, theirs: type[MethodSettings]) -> Iterator[tuple[str, Any]]:
    """Sections of a recipe's method that another method takes over."""
    cloning = _cloning_section(type(ours))
    if cloning is not None and cloning == _cloning_section(theirs):
        yield cloning, getattr(ours, cloning)
    if "explore" in ours.model_fields_set and _explores(ours) and _explores(theirs.model_validate({})):
        yield "explore", ours.explore  # type: ignore[attr-defined]


def _cloning_section(settings: type[MethodSettings]) -> str | None:
    """The section by which a method clones its first agent."""
    fields = settings.model_fields.items()
    return next((name for name, field in fields if isinstance(field.default, SftSettings)), None)


def _explores(settings: MethodSettings) -> bool:
    """Whether `explore` says how the agent's own episodes of the training tasks are played."""
    stages: Mapping[str, tuple[str, ...]] = {each.name: each.settings for each in declared_stages(settings)}
    return "explore" in stages.get(Stage.explore().name, ())
