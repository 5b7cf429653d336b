"""Rules for the fields of other trainers' items: read, refused or ignored.

A field that is null, or an empty
text, list or object where it would be refused, counts as absent: columns of tables fill up with
them. Unknown names are ignored and counted and reported in an item, for real data carries
columns of all kinds, and refused in a message, where few things are harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from eto.data.checks import bad
from eto.data.notes import Notes


@dataclass(frozen=True, slots=True)
class Field:
    """Names of one meaning."""

    names: tuple[str, ...]
    says: str
    """Of a field that is read, what it does; of a refused one, what to do instead."""


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields of one kind of object."""

    kind: str
    read: tuple[Field, ...]
    refused: tuple[Field, ...]
    ignored: tuple[str, ...]
    unknown_ignored: bool
    """Whether unknown names are ignored and counted, or refused."""

    def check(self, item: Mapping[str, Any], where: str, notes: Notes) -> None:
        """Raise `InputError` for a field that is refused; count those that are ignored."""
        for key, value in item.items():
            rule = rule_of(self, key)
            if rule == "read" or value is None:
                continue
            if isinstance(rule, Field):
                if value not in ("", [], {}):
                    raise bad(
                        where, key, "this field would change what is trained, and is not read", rule.says
                    )
            elif rule == "ignored":
                notes.ignored[key] += 1
            elif rule:
                hint = f"write {rule!r} if it is that; else delete it, or put it under 'meta'"
                raise bad(where, key, f"unknown field, very near to {rule!r}", hint)
            elif self.unknown_ignored:
                notes.ignored[key] += 1
            else:
                raise bad(
                    where, key, "unknown field", "delete it, or put it under 'meta' if it changes nothing"
                )

    @property
    def known(self) -> Iterator[str]:
        for one in (*self.read, *self.refused):
            yield from one.names


@cache
def rule_of(fields: Fields, key: str) -> str | Field:
    """`read`, `ignored`, the refused field, the known name this one is very near to, or ""."""
    if any(key in one.names for one in fields.read):
        return "read"
    for one in fields.refused:
        if key in one.names:
            return one
    if key in fields.ignored:
        return "ignored"
    plain = _plain(key)
    for name in fields.known:
        if plain == _plain(name) or (min(len(plain), len(name)) >= 5 and _one_apart(plain, _plain(name))):
            return name
    return ""


def _plain(name: str) -> str:
    """Without case and separators: `toolCalls` and `tool-calls` are `tool_calls`."""
    return re.sub(r"[\W_]", "", name.lower())


def _one_apart(one: str, other: str) -> bool:
    """Whether one letter added, left out, changed or swapped with its neighbour makes `other`."""
    if abs(len(one) - len(other)) > 1:
        return False
    at = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    left, right = one[at:], other[at:]
    swapped = left[:2] == right[:2][::-1] and left[2:] == right[2:]
    return swapped or left[1:] == right[1:] or left[1:] == right or left == right[1:]
