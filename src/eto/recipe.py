"""Read, override, print and compare recipes. Their fields are in `recipe_fields.py`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from eto.errors import RecipeError
from eto.limits import MOST, wanted
from eto.recipe_fields import (
    FREE_FIELDS,
    ContrastRecipe,
    DpoRecipe,
    EnvironmentRecipe,
    EvaluationRecipe,
    ExploreRecipe,
    GuardRecipe,
    LoraRecipe,
    ModelRecipe,
    Recipe,
    SftRecipe,
    TasksRecipe,
)
from eto.recipe_yaml import DEEPEST, Location, dotted, read_text, read_yaml, write_yaml
from eto.texts import brief, shorten, shown

MOST_TOLD = 20
"""Mistakes of a recipe that one message names."""
MOST_SHOWN = 120
"""Characters of an override that a message repeats."""

__all__ = [
    "FREE_FIELDS",
    "ContrastRecipe",
    "DpoRecipe",
    "EnvironmentRecipe",
    "EvaluationRecipe",
    "ExploreRecipe",
    "GuardRecipe",
    "LoraRecipe",
    "ModelRecipe",
    "Recipe",
    "SftRecipe",
    "TasksRecipe",
    "load_recipe",
    "parse_recipe",
    "recipe_diff",
    "recorded",
    "resolved_yaml",
]


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file `path`, with `key.path=value` overrides (values are YAML).

    Raises `RecipeError` naming the file, line and field, what is allowed, and the nearest known key;
    `InputError` when the file cannot be read.
    """
    return parse_recipe(read_text(Path(path)), overrides, source=str(path))


def parse_recipe(text: str, overrides: Sequence[str] = (), *, source: str = "recipe") -> Recipe:
    """As `load_recipe`, from text; `source` stands for the file in error messages."""
    values, lines = read_yaml(text, source)
    if not isinstance(values, dict):
        what = "is empty" if values is None else "is not a mapping of keys to values"
        raise RecipeError(f"the recipe {what}", where=source, mend="start from recipes/quickstart.yaml")
    values = _unshared(values)
    origins = {location: f"{source}:{line}" for location, line in lines.items()}
    for override in overrides:
        keys = _apply_override(values, override)
        for length in range(len(keys), 0, -1):
            if length == len(keys) or keys[:length] not in origins:
                origins[keys[:length]] = _named(override)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise _recipe_error(error, origins, source) from None
    _check_most(recipe, origins, source)
    return recipe


def resolved_yaml(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out; loads back to an equal recipe."""
    return write_yaml(recipe.model_dump(mode="json"))


def recorded(text: str, *, source: str = "recipe") -> Mapping[str, Any]:
    """The values of a resolved recipe that was written before; fields it did not know have their defaults.

    Raises `RecipeError`, naming `source`, where it is no YAML.
    """
    values, _ = read_yaml(text, source)
    for section in ("sft", "dpo"):  # earlier versions wrote out defaults that had no effect
        given = values.get(section) if isinstance(values, dict) else None
        if isinstance(given, dict) and given.get("batch_tokens") is not None:
            given["batch_size"] = None
        if isinstance(given, dict) and given.get("schedule") == "constant":
            given["warmup_ratio"] = 0.0
    try:
        return Recipe.model_validate(values).model_dump(mode="json")
    except ValidationError:  # of a version with other fields: compared as it stands
        return values if isinstance(values, dict) else {}


def recipe_diff(old: Recipe | Mapping[str, Any], new: Recipe | Mapping[str, Any]) -> list[str]:
    """Lines `field: old -> new` for every field that differs, in the order of the fields."""
    before, after = _flat(old), _flat(new)
    fields = [*before, *(field for field in after if field not in before)]
    absent = object()

    def text(values: Mapping[str, Any], field: str) -> str:
        value = values.get(field, absent)
        return "(absent)" if value is absent else "null" if value is None else shown(value, line=True)

    return [
        f"{field}: {text(before, field)} -> {text(after, field)}"
        for field in fields
        if before.get(field, absent) != after.get(field, absent)
    ]


def _flat(recipe: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    values = recipe.model_dump(mode="json") if isinstance(recipe, Recipe) else recipe

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from walk(inner, f"{path}.{key}" if path else str(key))
        else:
            yield path, value

    return dict(walk(values, ""))


def _unshared(value: Any) -> Any:
    """A copy in which what an alias repeats is there once for each: overrides change one place."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _named(override: str) -> str:
    return f"override {shorten(override, MOST_SHOWN)}"


def _apply_override(values: dict[str, Any], override: str) -> Location:
    """Set one `key.path=value` in `values`; returns the key path."""
    path, equals, text = override.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        problem, mend = "an override reads key.path=value", "for example sft.epochs=2"
        raise RecipeError(problem, where=_named(override), mend=mend)
    if len(keys) > DEEPEST:
        problem, mend = f"no field lies {len(keys)} levels deep", "docs/recipes.md lists the fields"
        raise RecipeError(problem, where=_named(override), mend=mend)
    try:
        value, _ = read_yaml(text, _named(override))
    except RecipeError as error:  # its one line needs no number
        where = error.where.replace(f"{_named(override)}:1", _named(override), 1)
        raise RecipeError(error.problem, where=where, mend=error.mend) from None
    inner = values
    for depth, key in enumerate(keys[:-1], start=1):
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            raise RecipeError(
                f"{dotted(keys[:depth])} holds a value, not a mapping",
                where=_named(override),
                mend=f"override {dotted(keys[:depth])} itself",
            )
    inner[keys[-1]] = _unshared(value)
    return keys


def _recipe_error(error: ValidationError, origins: Mapping[Location, str], source: str) -> RecipeError:
    found = [_explain(detail, origins, source) for detail in error.errors(include_url=False)]
    if len(found) == 1:
        problem, where, mend = found[0]
        return RecipeError(problem, where=where, mend=mend)
    listed = "".join(f"\n  {where}: {problem}; {mend}" for problem, where, mend in found[:MOST_TOLD])
    if len(found) > MOST_TOLD:
        listed += f"\n  and {len(found) - MOST_TOLD} more"
    return RecipeError(f"{len(found)} fields are wrong{listed}", where=source, mend="mend them in the recipe")


def _check_most(recipe: Recipe, origins: Mapping[Location, str], source: str) -> None:
    given = _flat(recipe)
    for field, most in MOST.items():
        value = given.get(field)
        if value is not None and value > most:
            location = tuple(field.split("."))
            problem = f"must be at most {most:,}, but is {brief(value)}"
            raise RecipeError(problem, where=_where(location, origins, source), mend=_description(location))


def _where(location: Location, origins: Mapping[Location, str], source: str) -> str:
    known = [location[:length] for length in range(len(location), 0, -1) if location[:length] in origins]
    origin = origins[known[0]] if known else source
    return f"{origin}: {dotted(location)}" if location else origin


def _explain(detail: Any, origins: Mapping[Location, str], source: str) -> tuple[str, str, str]:
    """Problem, where and mend of one of pydantic's error details."""
    location = _field_location(detail["loc"])
    where = _where(location, origins, source)
    kind = detail["type"]
    if kind == "invalid_key":
        return f"a key must be text, but is {brief(detail['loc'][-1])}", where, "put it in quotes"
    if kind == "extra_forbidden":
        return "unknown key", where, _nearest(location)
    if kind == "value_error":
        return str(detail["ctx"]["error"]), where, "change one of the two"
    message = wanted(detail)
    if kind != "missing":
        message += f", but is {brief(detail['input'])}"
    if kind == "string_type" and isinstance(detail["input"], bool | int | float | None):
        return message, where, "put it in quotes, for example '...'; unquoted, YAML reads it otherwise"
    return message, where, _description(location)


def _field_location(location: Location) -> Location:
    """`location` up to the last part that names a field; pydantic adds branches of unions and indices."""
    section: Any = Recipe
    for depth, part in enumerate(location):
        if section is None or part not in section.model_fields:
            known_section = section is not None and depth == len(location) - 1
            return location[: depth + 1] if known_section else location[:depth]
        section = _section(section.model_fields[part].annotation)
    return location


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section behind a field's type, `LoraRecipe | None` included."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _fields(section: type[BaseModel] = Recipe, path: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Every field of the recipe with its place."""
    for name, field in section.model_fields.items():
        yield (*path, name), field
        if inner := _section(field.annotation):
            yield from _fields(inner, (*path, name))


def _description(location: Location) -> str:
    field = dict(_fields()).get(location)
    text = (field.description if field else "") or ""
    return f"{dotted(location)}: {' '.join(text.split())}"


def _nearest(location: Location) -> str:
    places = [place for place, _ in _fields()]
    siblings = [str(place[-1]) for place in places if place[:-1] == location[:-1]]
    near = difflib.get_close_matches(str(location[-1]), siblings, n=1)
    if near:
        return f"did you mean {dotted((*location[:-1], near[0]))}?"
    elsewhere = [dotted(place) for place in places if place[-1] == location[-1]]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"known here: {', '.join(siblings)}"
