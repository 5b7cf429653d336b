"""What is wrong with a recipe, said by file, line and field, with what is allowed or the nearest key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from eto.data.texts import brief
from eto.errors import RecipeError
from eto.experiment.recipe_fields import Recipe, most_of, recipe_fields, section_of
from eto.experiment.recipe_yaml import Location, dotted
from eto.settings import MethodSettings
from eto.settings.base import SKIPPED, Conflict
from eto.settings.limits import wanted

MOST_SHOWN = 20
"""Mistakes of a recipe that one message names."""


class Origins:
    """Where each field of a recipe was given: a line of its file, or an override."""

    def __init__(self, source: str, lines: Mapping[Location, str], method: type[MethodSettings]) -> None:
        self.source, self.lines, self.method = source, lines, method

    def where(self, location: Location) -> str:
        known = [
            location[:length] for length in range(len(location), 0, -1) if location[:length] in self.lines
        ]
        origin = self.lines[known[0]] if known else self.source
        return f"{origin}: {dotted(location)}" if location else origin

    def error(self, error: ValidationError) -> RecipeError:
        """All mistakes as one error."""
        details = [each for each in error.errors(include_url=False) if each["type"] != SKIPPED]
        explained = [self._explain(detail) for detail in details]
        if len(explained) == 1:
            problem, where, hint = explained[0]
            return RecipeError(problem, where=where, hint=hint)
        listed = "".join(f"\n  {where}: {problem}; {hint}" for problem, where, hint in explained[:MOST_SHOWN])
        if len(explained) > MOST_SHOWN:
            listed += f"\n  and {len(explained) - MOST_SHOWN} more"
        return RecipeError(
            f"{len(explained)} fields are wrong{listed}", where=self.source, hint="fix them in the recipe"
        )

    def check_most(self, recipe: Recipe) -> None:
        """Raises `RecipeError` for a value above the largest that a recipe may have."""
        for location, field in recipe_fields(self.method):
            value: Any = recipe
            for part in location:
                value = getattr(value, str(part), None)
            most = most_of(field)
            if most is not None and value is not None and value > most:
                problem = f"must be at most {most:,}, but is {brief(value)}"
                raise RecipeError(problem, where=self.where(location), hint=self._description(location))

    def _explain(self, detail: Any) -> tuple[str, str, str]:
        """Problem, where and hint of one of pydantic's error details."""
        location = self._field_location(detail["loc"])
        where = self.where(location)
        error_type = detail["type"]
        if error_type == "invalid_key":
            return f"a key must be text, but is {brief(detail['loc'][-1])}", where, "put it in quotes"
        if error_type == "extra_forbidden":
            return "unknown key", where, self._nearest(location)
        if isinstance(error := detail.get("ctx", {}).get("error"), Conflict):
            place = f"{dotted(location)}." if location else ""
            return error.at(place), where, "change one of the two"
        message = wanted(detail)
        if error_type != "missing":
            message += f", but is {brief(detail['input'])}"
        if error_type == "string_type" and isinstance(detail["input"], bool | int | float | None):
            return message, where, "put it in quotes, for example '...'; unquoted, YAML reads it otherwise"
        return message, where, self._description(location)

    def _field_location(self, location: Location) -> Location:
        """`location` up to the last part that names a field; pydantic adds branches of unions and indices."""
        section: Any = Recipe
        for depth, part in enumerate(location):
            if section is None or part not in section.model_fields:
                known_section = section is not None and depth == len(location) - 1
                return location[: depth + 1] if known_section else location[:depth]
            section = section_of(section.model_fields[part].annotation)
            section = self.method if section is MethodSettings else section
        return location

    def _description(self, location: Location) -> str:
        field = dict(recipe_fields(self.method)).get(location)
        text = (field.description if field else "") or ""
        return f"{dotted(location)}: {' '.join(text.split())}"

    def _nearest(self, location: Location) -> str:
        places = [place for place, _ in recipe_fields(self.method)]
        siblings = [str(place[-1]) for place in places if place[:-1] == location[:-1]]
        near = difflib.get_close_matches(str(location[-1]), siblings, n=1)
        if near:
            return f"did you mean {dotted((*location[:-1], near[0]))}?"
        others = {str(place[-1]) for place in places}
        near = difflib.get_close_matches(str(location[-1]), others, n=1, cutoff=0.65)
        elsewhere = [dotted(place) for place in places if place[-1] in near]
        if elsewhere:
            return f"did you mean {' or '.join(elsewhere)}?"
        return f"known here: {', '.join(siblings)}"
