"""Read, override, print and compare recipes. Their fields are in `experiment/recipe_fields.py`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eto.data.texts import shorten, shown
from eto.errors import InputError, RecipeError
from eto.experiment.recipe_earlier import ABSENT, Rewriting
from eto.experiment.recipe_errors import Origins
from eto.experiment.recipe_fields import DEFAULT_METHOD, Recipe, free_fields
from eto.experiment.recipe_yaml import DEEPEST, Location, dotted, read_text, read_yaml, write_yaml
from eto.experiment.shipped import recipe_path
from eto.methods import load_method
from eto.settings import MethodSettings

MOST_SHOWN = 120
"""Characters of an override that a message repeats."""
RUN_FILE = "recipe.yaml"
_OF_A_RUN = ("manifest.json", "stages", "trajectories.sqlite", "metrics.jsonl")
"""Where a run's directory holds the recipe, with every default written out."""
_RESTORE = "restore it from a copy: the run wrote it when it began"

__all__ = [
    "Recipe",
    "flat",
    "free_fields",
    "load_recipe",
    "parse_recipe",
    "recipe_diff",
    "recipe_of_run",
    "recorded",
    "resolved_yaml",
]


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file `path`, with `key.path=value` overrides (values are YAML). Where there is
    no such file, a name such as `quickstart` stands for the recipe that the package carries.

    A warning says how keys of the earlier form are written now.
    Raises `RecipeError` naming the file, line and field, what is allowed, and the nearest known key;
    `InputError` when the file cannot be read.
    """
    return parse_recipe(read_text(recipe_path(path)), overrides, source=str(path))


def is_run(directory: Path) -> bool:
    """Whether there is a run that has begun: a recipe alone may be anybody's."""
    return (directory / RUN_FILE).is_file() and any((directory / name).exists() for name in _OF_A_RUN)


def recipe_of_run(directory: Path) -> Recipe:
    """The recipe that the run in `directory` wrote down; of an earlier form without a warning. Raises as
    `load_recipe`."""
    path = directory / RUN_FILE
    values, lines = _mapping(read_text(path), str(path), _RESTORE)
    origins = Rewriting(str(path)).file(values, _places(lines, str(path)))
    return _validated(values, origins, str(path))


def parse_recipe(text: str, overrides: Sequence[str] = (), *, source: str = "recipe") -> Recipe:
    """As `load_recipe`, from text; `source` stands for the file in error messages."""
    values, lines = _mapping(text, source, "`eto recipes` lists some to start from")
    rewriting = Rewriting(source)
    origins = rewriting.file(values, _places(lines, source))
    for override in overrides:
        for keys in _apply_override(values, override, rewriting):
            for length in range(len(keys), 0, -1):
                if length == len(keys) or keys[:length] not in origins:
                    origins[keys[:length]] = _named(override)
    if rewriting.note:
        warnings.warn(rewriting.note, stacklevel=2)
    return _validated(values, origins, source)


def _mapping(text: str, source: str, hint: str) -> tuple[dict[str, Any], Mapping[Location, int]]:
    """The values of a recipe, and the line of every field; `hint` tells what to do where it is none."""
    values, lines = _read(text, source)
    if not isinstance(values, dict):
        what = "is empty" if values is None else "is not a mapping of keys to values"
        raise RecipeError(f"the recipe {what}", where=source, hint=hint)
    return _unshared(values), lines


@lru_cache(maxsize=8)
def _read(text: str, source: str) -> tuple[Any, Mapping[Location, int]]:
    """`read_yaml`, not to be changed: a command reads the recipe of a run several times."""
    return read_yaml(text, source)


def _places(lines: Mapping[Location, int], source: str) -> dict[Location, str]:
    return {location: f"{source}:{line}" for location, line in lines.items()}


def _validated(values: dict[str, Any], origins: Mapping[Location, str], source: str) -> Recipe:
    given = Origins(source, origins, MethodSettings)
    try:
        given.method = _method_settings(values)
    except InputError as error:
        where = given.where(("method", "name"))
        raise RecipeError(error.problem, where=where, hint=error.hint) from None
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise given.error(error) from None
    given.check_most(recipe)
    return recipe


def _method_settings(values: Mapping[str, Any]) -> type[MethodSettings]:
    """The settings class of the method that `values` name. Raises `InputError` for an unknown method."""
    given = values.get("method", {})
    name = given.get("name", DEFAULT_METHOD) if isinstance(given, dict) else DEFAULT_METHOD
    return load_method(name).settings if isinstance(name, str) else MethodSettings


def resolved_yaml(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out; loads back to an equal recipe."""
    return write_yaml(recipe.model_dump(mode="json"))


def recorded(text: str, *, source: str = "recipe") -> Mapping[str, Any]:
    """The values of a resolved recipe that was written before, in the present form; fields it did not know
    have their defaults.

    Raises `RecipeError`, naming `source`, where it is not a mapping in YAML.
    """
    values, _ = _mapping(text, source, _RESTORE)
    rewriting = Rewriting(source)
    rewriting.file(values, {})
    method = values.get("method")
    for section in ("sft", "dpo"):  # earlier versions wrote out defaults that had no effect
        given = method.get(section) if isinstance(method, dict) else None
        if isinstance(given, dict) and given.get("batch_tokens") is not None:
            given["batch_size"] = None
        if isinstance(given, dict) and given.get("schedule") == "constant":
            given["warmup_ratio"] = 0.0
        if isinstance(given, dict) and rewriting.note and given.get("micro_batch_tokens") == 1024:
            given["micro_batch_tokens"] = None  # was the default on every device
    try:
        return Recipe.model_validate(values).model_dump(mode="json")
    except (ValidationError, InputError):  # of a version with other fields: compared as it stands
        return values


def recipe_diff(old: Recipe | Mapping[str, Any], new: Recipe | Mapping[str, Any]) -> list[str]:
    """Lines `field: old -> new` for every field that differs, in the order of the fields."""
    before, after = flat(old), flat(new)
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


def flat(recipe: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    """Its JSON values by dotted name."""
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


def _apply_override(values: dict[str, Any], override: str, rewriting: Rewriting) -> list[Location]:
    """Set one `key.path=value` in `values`; returns the places that it set."""
    path, equals, text = override.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        problem, hint = "an override reads key.path=value", "for example method.sft.epochs=2"
        raise RecipeError(problem, where=_named(override), hint=hint)
    if len(keys) > DEEPEST:
        problem, hint = f"no field lies {len(keys)} levels deep", "docs/recipes.md lists the fields"
        raise RecipeError(problem, where=_named(override), hint=hint)
    try:
        value, _ = read_yaml(text, _named(override))
    except RecipeError as error:  # its one line needs no number
        where = error.where.replace(f"{_named(override)}:1", _named(override), 1)
        raise RecipeError(error.problem, where=where, hint=error.hint) from None
    places = []
    for place, part in rewriting.override(keys, _unshared(value)):
        _set(values, place, part, override)
        places.append(place)
    return places


def _set(values: dict[str, Any], keys: Location, value: Any, override: str) -> None:
    inner: dict[Any, Any] = values
    for depth, key in enumerate(keys[:-1], start=1):
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            raise RecipeError(
                f"{dotted(keys[:depth])} holds a value, not a mapping",
                where=_named(override),
                hint=f"override {dotted(keys[:depth])} itself",
            )
    if value is ABSENT:
        inner.pop(keys[-1], None)
    else:
        inner[keys[-1]] = value
