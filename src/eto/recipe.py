"""Read, override, print and compare recipes. Their fields are in `recipe_fields.py`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from eto.errors import InputError, RecipeError
from eto.limits import wanted
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

Location = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that reads `1e-5` as a number, which YAML 1.1 takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file `path`, with `key.path=value` overrides (values are YAML).

    Raises `RecipeError` naming the file, line and field, what is allowed, and the nearest known key;
    `InputError` when the file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputError(
            f"cannot read the recipe: {reason}", where=str(path), mend="check the path"
        ) from None
    return parse_recipe(text, overrides, source=str(path))


def parse_recipe(text: str, overrides: Sequence[str] = (), *, source: str = "recipe") -> Recipe:
    """As `load_recipe`, from text; `source` stands for the file in error messages."""
    values, lines = _read_yaml(text, source)
    origins = {location: f"{source}:{line}" for location, line in lines.items()}
    for override in overrides:
        keys = _apply_override(values, override)
        for length in range(len(keys), 0, -1):
            if length == len(keys) or keys[:length] not in origins:
                origins[keys[:length]] = f"override {override}"
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _recipe_error(error, origins, source) from None


def resolved_yaml(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out; loads back to an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def recorded(text: str) -> Mapping[str, Any]:
    """The values of a resolved recipe that was written before; fields it did not know have their defaults."""
    values = yaml.safe_load(text)
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
        return "(absent)" if value is absent else "null" if value is None else str(value)

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


def _read_yaml(text: str, source: str) -> tuple[dict[str, Any], dict[Location, int]]:
    """The mapping in `text`, and the line of every field."""
    lines: dict[Location, int] = {}

    def note(node: yaml.Node, location: Location) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                place = (*location, str(key.value))
                if place in lines:
                    raise RecipeError(
                        f"the key is given twice, first in line {lines[place]}",
                        where=f"{source}:{key.start_mark.line + 1}: {_dotted(place)}",
                        mend="keep one of them",
                    )
                lines[place] = key.start_mark.line + 1
                note(value, place)

    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            note(node, ())
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _syntax_error(error, source) from None
    if not isinstance(values, dict):
        what = "is empty" if values is None else "is not a mapping of keys to values"
        raise RecipeError(f"the recipe {what}", where=source, mend="start from recipes/quickstart.yaml")
    return values, lines


def _syntax_error(error: yaml.YAMLError, source: str) -> RecipeError:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "unreadable"
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    if context and start:
        problem += f", {context} that starts in line {start.line + 1}"
    where = f"{source}:{mark.line + 1}" if mark else source
    return RecipeError(f"not valid YAML: {problem}", where=where, mend="see this line and those above")


def _apply_override(values: dict[str, Any], override: str) -> Location:
    """Set one `key.path=value` in `values`; returns the key path."""
    dotted, equals, text = override.partition("=")
    keys = tuple(dotted.strip().split("."))
    if not equals or not all(keys):
        raise RecipeError(
            "an override reads key.path=value",
            where=f"override {override}",
            mend="for example sft.epochs=2",
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise RecipeError(
            f"not valid YAML: {text}", where=f"override {dotted}", mend="quote the value"
        ) from None
    inner = values
    for depth, key in enumerate(keys[:-1], start=1):
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            raise RecipeError(
                f"{'.'.join(keys[:depth])} holds a value, not a mapping",
                where=f"override {override}",
                mend=f"override {'.'.join(keys[:depth])} itself",
            )
    inner[keys[-1]] = value
    return keys


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


def _recipe_error(error: ValidationError, origins: Mapping[Location, str], source: str) -> RecipeError:
    found = [_explain(detail, origins, source) for detail in error.errors(include_url=False)]
    if len(found) == 1:
        problem, where, mend = found[0]
        return RecipeError(problem, where=where, mend=mend)
    listed = "".join(f"\n  {where}: {problem}; {mend}" for problem, where, mend in found)
    return RecipeError(f"{len(found)} fields are wrong{listed}", where=source, mend="mend them in the recipe")


def _explain(detail: Any, origins: Mapping[Location, str], source: str) -> tuple[str, str, str]:
    """Problem, where and mend of one of pydantic's error details."""
    location = _field_location(detail["loc"])
    known = [location[:length] for length in range(len(location), 0, -1) if location[:length] in origins]
    origin = origins[known[0]] if known else source
    where = f"{origin}: {_dotted(location)}" if location else origin
    kind = detail["type"]
    if kind == "extra_forbidden":
        return "unknown key", where, _nearest(location)
    if kind == "value_error":
        return str(detail["ctx"]["error"]), where, "change one of the two"
    message = wanted(detail)
    if kind != "missing":
        message += f", but is {detail['input']!r}"
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
    text = dict(_fields())[location].description or ""
    return f"{_dotted(location)}: {' '.join(text.split())}"


def _nearest(location: Location) -> str:
    places = [place for place, _ in _fields()]
    siblings = [str(place[-1]) for place in places if place[:-1] == location[:-1]]
    near = difflib.get_close_matches(str(location[-1]), siblings, n=1)
    if near:
        return f"did you mean {_dotted((*location[:-1], near[0]))}?"
    elsewhere = [_dotted(place) for place in places if place[-1] == location[-1]]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"known here: {', '.join(siblings)}"
