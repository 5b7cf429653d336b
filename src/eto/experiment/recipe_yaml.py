"""YAML as recipes use it: bounded in size and depth, plain values only, every field with its line.

Two rules differ from YAML 1.1, which takes `1e-5` and `2026-01-31` for text and a date, and `1:30` for
ninety: here the first is a number and the others are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    ScalarEvent,
)

from eto.data.oserrors import unreadable
from eto.data.texts import whole
from eto.errors import InputError, RecipeError

Location = tuple[str | int, ...]

LARGEST_FILE = 1_000_000
"""Bytes of a recipe."""
MOST_VALUES = 20_000
"""Values of a recipe, those that an alias repeats counted again."""
DEEPEST = 40
"""Levels of mappings and lists in one another."""
_INTEGER_BITS = 63
_TAG = "tag:yaml.org,2002:"


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that no recipe may hold. `hint` says what to write."""

    def __init__(self, problem: str, mark: Any, hint: str) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.hint = hint


class _Size:
    """Refuses what would not end or fill the memory, event by event, before anything is built of it."""

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[int, int]] = {}  # of anchors: values, levels
        self._open: list[list[Any]] = [["", 0, 0]]  # collections: anchor, values, levels

    def take(self, event: Any) -> None:
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", f"{_TAG}str"):
            raise _Refused(f"the tag {tag} has no meaning here", event.start_mark, "write the plain value")
        if isinstance(event, DocumentStartEvent):
            self._sizes.clear()
        elif isinstance(event, CollectionStartEvent):
            self._add(1, 0, event.start_mark)
            self._open.append([event.anchor, 0, 0])
        elif isinstance(event, CollectionEndEvent):
            anchor, values, levels = self._open.pop()
            if anchor:
                self._sizes[anchor] = values, levels + 1
            self._add(values, levels + 1, event.end_mark)
        elif isinstance(event, ScalarEvent):
            self._add(1, 0, event.start_mark)
            if event.anchor:
                self._sizes[event.anchor] = 1, 0
        elif isinstance(event, AliasEvent):
            if event.anchor in [anchor for anchor, _, _ in self._open]:
                raise _Refused(
                    f"*{event.anchor} refers to what it is part of",
                    event.start_mark,
                    "write the value itself",
                )
            self._add(*self._sizes.get(str(event.anchor), (1, 0)), event.start_mark)

    def _add(self, values: int, levels: int, mark: Any) -> None:
        self._open[-1][1] += values
        self._open[-1][2] = max(self._open[-1][2], levels)
        if len(self._open) + levels > DEEPEST:
            raise _Refused(f"more than {DEEPEST} levels in one another", mark, "write it flatter")
        if sum(count for _, count, _ in self._open) > MOST_VALUES:
            raise _Refused(f"more than {MOST_VALUES:,} values", mark, "write fewer; aliases count as well")


class _Loader(yaml.SafeLoader):
    """Plain values: null, true and false, numbers of ordinary size, whole text, lists and mappings."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [
            (tag, pattern)
            for tag, pattern in known
            if tag.removeprefix(_TAG) not in ("timestamp", "int", "float")
        ]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._size = _Size()

    def get_event(self) -> Any:
        """Nodes are composed of these."""
        event = super().get_event()
        self._size.take(event)
        return event


_Loader.add_implicit_resolver(
    f"{_TAG}int",
    re.compile(r"^[-+]?(?:0b[01]+|0x[0-9a-fA-F]+|0o[0-7]+|[0-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
        hint = f"write {digits.lstrip('0') or '0'}, or quote it where it is text"
        raise _Refused(f"{text[:40]} begins with 0: octal or decimal?", node.start_mark, hint)
    if len(digits) <= 2 + _INTEGER_BITS and (value := int(text, 0)).bit_length() <= _INTEGER_BITS:
        return value
    problem = f"a whole number of {len(digits)} digits does not fit into 64 bits"
    raise _Refused(problem, node.start_mark, "write a smaller one, or quote it where it is text")


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    value = loader.construct_yaml_float(node)
    if not math.isfinite(value):
        hint = "write a number; where a bound may be absent, null says so"
        raise _Refused(f"{node.value[:40]} is not a finite number", node.start_mark, hint)
    return value


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = whole(loader.construct_scalar(node))
    if text.count("\ufffd") != node.value.count("\ufffd"):
        hint = "write the character itself, or both of its escapes"
        raise _Refused("the text holds one an unpaired surrogate", node.start_mark, hint)
    if "\0" in text:
        raise _Refused("the text holds a NUL character", node.start_mark, "leave it out")
    return text


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {"int": _integer, "float": _number, "str": _text}
for _name, _maker in _CONSTRUCTORS.items():
    _Loader.add_constructor(f"{_TAG}{_name}", _maker)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `_Loader` would read as something else."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
            *_Loader.yaml_implicit_resolvers.get(first, []),
        ]
        for first in yaml.SafeDumper.yaml_implicit_resolvers | _Loader.yaml_implicit_resolvers
    }


def read_text(path: Path, what: str = "recipe") -> str:
    """The text of a file that is a recipe. Raises `InputError` where it cannot be one."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise unreadable(path, error, what) from None
    if len(data) > LARGEST_FILE:
        problem = f"cannot read the {what}: it has more than {LARGEST_FILE:,} bytes"
        raise InputError(problem, where=str(path), hint=f"give the YAML file of a {what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"cannot read the {what}: it is not UTF-8 text, byte {error.start}"
        raise InputError(problem, where=str(path), hint="save it as UTF-8") from None


def read_yaml(text: str, source: str) -> tuple[Any, dict[Location, int]]:
    """The value of `text`, and the line of every field. Raises `RecipeError` naming the line."""
    lines: dict[Location, int] = {}

    def note(node: yaml.Node, location: Location) -> None:
        if isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                note(value, (*location, number))
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused("a key is a list or a mapping", key.start_mark, "write a name")
            place = (*location, str(key.value))
            if place in lines:
                raise RecipeError(
                    f"the key is given twice, first in line {lines[place]}",
                    where=f"{source}:{key.start_mark.line + 1}: {dotted(place)}",
                    hint="keep one of them",
                )
            lines[place] = key.start_mark.line + 1
            note(value, place)

    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                note(node, ())
            return None if node is None else loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _syntax_error(error, source) from None


def write_yaml(values: Any) -> str:
    """`values` as YAML that `read_yaml` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


def _syntax_error(error: yaml.YAMLError, source: str) -> RecipeError:
    if isinstance(error, yaml.reader.ReaderError):
        problem = f"not valid YAML: the character U+{error.character:04X} at position {error.position}"
        return RecipeError(
            problem, where=source, hint="leave it out, or write it as an escape in double quotes"
        )
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "unreadable"
    where = f"{source}:{mark.line + 1}" if mark else source
    if isinstance(error, _Refused):
        return RecipeError(problem, where=where, hint=error.hint)
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    if context and start:
        problem += f", {context} that starts in line {start.line + 1}"
    hint = "indent with spaces" if r"'\t'" in problem else "see this line and those above"
    return RecipeError(f"not valid YAML: {problem}", where=where, hint=hint)
