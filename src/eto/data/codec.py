"""Frozen dataclasses as JSON and back, by their type hints: one codec for files and for pipes.

Fields at their default are left out. Reading is strict: no text for a number, no unknown field.
`read` reports each fault with its place, its field and the remedy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from eto.data.checks import bad, joined
from eto.data.texts import brief
from eto.errors import InputError
from eto.types import Message, Pair, Task, ToolCall, Trajectory, Turn

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

_RECORDS = {
    **{"trajectory": Trajectory, "task": Task, "message": Message},
    **{"turn": Turn, "call": ToolCall, "pair": Pair},
}
OWN_FIELDS = {kind: tuple(field.name for field in fields(made)) for kind, made in _RECORDS.items()}
"""Every field of our own records; any other but `META` is refused."""
META = ("meta",)
"""The user's own notes, which `read` skips."""
_FREE = ("payload", "tools")
"""Fields whose content is any JSON."""
_HOLDS = {
    **{"task": "task", "chosen": "trajectory", "rejected": "trajectory", "turns": "turn"},
    **{"messages": "message", "answers": "message", "tool_calls": "call"},
}
"""Field that holds records -> their kind."""
_ONE_OF = {"turns": "turn", "messages": "message", "answers": "answer", "tool_calls": "call"}
"""Field that holds several records -> what a place calls one of them."""


def to_data(value: Any) -> dict[str, Any]:
    """The JSON object of a dataclass."""
    # A list where a tuple belongs, and a mapping that is not a dict, are written anyway.
    options: Any = {"mode": "json", "exclude_defaults": True, "warnings": False, "fallback": dict}
    record_type: Any = type(value)
    return _adapter(record_type).dump_python((value,), **options)[0]


def to_line(value: Any) -> str:
    """`to_data` as one line of ASCII."""
    return json.dumps(to_data(value))


def from_line(record_type: type[T], line: str) -> T:
    """Inverse of `to_line`. Raises `ValueError` for anything else."""
    wanted: Any = record_type
    return _adapter(wanted).validate_json(f"[{line}]")[0]


def read(record_type: type[T], record: Mapping[str, Any], where: str) -> T:
    """The dataclass of a user's JSON object; a null is a field left out. Raises `InputError`."""
    from pydantic import ValidationError

    try:
        return from_line(record_type, json.dumps(record))
    except ValidationError:  # the usual case first: it needs no second look at every field
        given = _without_nulls(record)
    sides = (given.get("chosen"), given.get("rejected")) if isinstance(given, dict) else ()
    for episode in (given, *sides):
        if isinstance(episode, dict) and "stop" in episode:
            episode.setdefault("success", None)
    try:
        return from_line(record_type, json.dumps(given))
    except ValidationError as error:
        raise _fault(error, record_type, where) from None


def prepare(*kinds: type) -> None:
    """Make ready now what reads and writes `kinds`, not at the first of them: it imports.

    Python 3.11 can keep its import lock where Ctrl-C interrupts an import that waits for another thread's.
    """
    for record_type in kinds:
        _adapter(record_type)


@cache
def _adapter(record_type: type) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter  # here: `import eto` stays quick

    # Pydantic takes no settings for a dataclass itself, and hands those of a tuple down to its parts.
    config = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="constants")
    wrapped: Any = tuple[record_type]  # type: ignore[valid-type]
    return TypeAdapter(wrapped, config=config)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: inner if key in _FREE else _without_nulls(inner)
        for key, inner in value.items()
        if inner is not None and key not in META
    }


_EXPECTED = {
    **{"string_type": "text", "int_type": "a whole number", "float_type": "a number"},
    **{"bool_type": "true or false", "tuple_type": "a list"},
    **dict.fromkeys(("dict_type", "mapping_type", "dataclass_type"), "an object"),
}
"""pydantic's name of a fault -> what the value must be."""


def _fault(error: ValidationError, record_type: type, where: str) -> InputError:
    """The first fault that pydantic finds in a record of `kind`."""
    detail: Any = error.errors(include_url=False)[0]
    name = next(name for name, made in _RECORDS.items() if made is record_type)
    location = list(detail["loc"][1:])
    while len(location) > 1 and location[0] in _HOLDS:
        field = location.pop(0)
        name = _HOLDS[field]
        where = joined(where, f"{_ONE_OF[field]} {location.pop(0)}" if field in _ONE_OF else field)
    given = brief(detail["input"]) if detail["input"] is not None else "null"
    problem, remedy = f"expected {_EXPECTED.get(detail['type'], 'another value')}, found {given}", ""
    if detail["type"] == "missing":
        problem, remedy = "the field is missing", "add it, or delete the item"
    elif detail["type"] == "unexpected_keyword_argument":
        problem = f"a {name} has no such field"
        remedy = f"use one of {', '.join(OWN_FIELDS[name])}; notes of your own go under 'meta'"
    elif detail["type"] in ("enum", "literal_error"):
        problem = f"unknown {location[0]} {given}"
        remedy = f"use one of {detail['ctx']['expected']}"
    if not location:
        return InputError(problem, where=where, hint="correct it, or delete the item")
    return bad(where, str(location[0]), problem, remedy)
