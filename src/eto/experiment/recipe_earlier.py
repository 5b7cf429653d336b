"""Recipes in the form of version 0.1.0, read as what they are now.

There the sections of the one method stood at the top (`sft.epochs`), and some fields had other names.
Files, overrides and the recipes of earlier runs are rewritten before they are validated, and a note says
how each key that was given is written now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eto.errors import RecipeError
from eto.experiment.recipe_yaml import Location, dotted

MOVED = ("sft", "explore", "contrast", "dpo", "guard")
"""Sections that are the method's now."""
RENAMED: Mapping[Location, Location] = {
    ("explore", "iterations"): ("method", "iterations"),
    ("explore", "slots"): ("rollout", "slots"),
    ("explore", "max_action_tokens"): ("rollout", "max_action_tokens"),
    ("evaluation", "slots"): ("rollout", "slots"),
    ("dpo", "batch_pairs"): ("method", "dpo", "batch_size"),
    ("dpo", "replay_weight"): ("method", "dpo", "rehearsal_weight"),
}
VALUES: Mapping[Location, Mapping[str, str]] = {("contrast", "turns"): {"from_parting": "from_divergence"}}
"""Values that have another name now."""
ABSENT = object()
"""The value of a field that an override takes away."""


class Rewriting:
    """Rewrites what is given in the earlier form; `note` says in one line what was."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rewritten: dict[str, str] = {}
        self._in_file = False

    @property
    def note(self) -> str:
        """How each earlier key is written now; "" where there was none."""
        if not self._rewritten:
            return ""
        pairs = ", ".join(f"{old} as {new}" for old, new in self._rewritten.items())
        what = f"{self._source} is" if self._in_file else "an override is"
        return f"{what} in the earlier form, which is still read; now write {pairs}"

    def file(self, values: dict[str, Any], lines: Mapping[Location, str]) -> dict[Location, str]:
        """Rewrite `values` in place; returns `lines`, where each field was given, under its present name.

        Raises `RecipeError` where a key is given in both forms.
        """
        for old in _earlier_in(values):
            value = values[str(old[0])].pop(old[1]) if len(old) > 1 else values.pop(str(old[0]))
            new = self._note(old)
            if old == ("evaluation", "slots") and "explore.slots" in self._rewritten:
                continue  # there was one number for each; exploring's is kept
            self._put(values, old, new, self._value(old, value), lines)
        for section in MOVED:
            if values.get(section) == {}:
                del values[section]
        self._in_file = bool(self._rewritten)
        moved = {location: present(location) for location in lines if self._was_rewritten(location)}
        return {moved.get(location, location): line for location, line in lines.items()}

    def override(self, keys: Location, value: Any) -> Iterator[tuple[Location, Any]]:
        """What an override `keys=value` sets now, each with its value; `ABSENT` takes a value away."""
        section, *inner = keys
        if inner:
            earlier = section in MOVED or keys[:2] in RENAMED
            yield (self._note(keys[:2]) + keys[2:] if earlier else keys), self._value(keys, value)
            return
        if not isinstance(value, dict):
            yield (self._note(keys) if section in MOVED else keys), value
            return
        renamed = {old: new for old, new in RENAMED.items() if old[0] == section}
        kept = {k: self._value((section, k), v) for k, v in value.items() if (section, k) not in renamed}
        yield (("method", section) if section in MOVED else keys), kept
        if section in MOVED and kept:
            self._note(keys)
        for old, new in renamed.items():
            if old[1] in value:
                yield self._note(old), value[str(old[1])]
            elif new == ("method", "iterations"):
                yield new, ABSENT

    def _note(self, old: Location) -> Location:
        # A field that keeps its name is reported by its section.
        noted = old if old in RENAMED else old[:1]
        self._rewritten[dotted(noted)] = dotted(present(noted))
        return present(old)

    def _was_rewritten(self, location: Location) -> bool:
        return str(location[0]) in self._rewritten or dotted(location[:2]) in self._rewritten

    def _value(self, old: Location, value: Any) -> Any:
        if not isinstance(value, str) or value not in VALUES.get(old, {}):
            return value
        self._rewritten[f"{dotted(old)}: {value}"] = VALUES[old][value]
        return VALUES[old][value]

    def _put(
        self, values: dict[str, Any], old: Location, new: Location, value: Any, lines: Mapping[Location, str]
    ) -> None:
        inner: Any = values
        for key in new[:-1]:
            inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner
        if not isinstance(inner, dict) or new[-1] in inner:
            raise RecipeError(
                f"is given twice, also as {dotted(new)} at {lines.get(new, self._source)}",
                where=f"{lines.get(old, self._source)}: {dotted(old)}",
                hint=f"keep {dotted(new)}",
            )
        inner[new[-1]] = value


def present(location: Location) -> Location:
    """Where a field of the earlier form is now."""
    for length in range(len(location), 0, -1):
        if location[:length] in RENAMED:
            return RENAMED[location[:length]] + location[length:]
    return ("method", *location) if location[0] in MOVED else location


def _earlier_in(values: Mapping[str, Any]) -> list[Location]:
    """The fields of `values` in the earlier form; a section that is not a mapping as a whole."""
    locations: list[Location] = []
    for section in (*MOVED, "evaluation"):
        given = values.get(section)
        if isinstance(given, dict):
            locations += [(section, key) for key in given if section in MOVED or (section, key) in RENAMED]
        elif section in values and section in MOVED:
            locations.append((section,))
    return locations
