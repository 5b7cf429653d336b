"""Fields of JSON objects, checked so that a mistake names its place, its field and the remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from eto.data.texts import brief
from eto.errors import InputError
from eto.types import Message, Role

NUMBER = (int, float)


def need(record: Mapping[str, Any], key: str, types: type | tuple[type, ...], where: str) -> Any:
    """`record[key]`, which must be there and of type `kind`; booleans are not numbers."""
    if key not in record:
        raise bad(where, key, "the field is missing", "add it, or delete the item")
    return _checked(record[key], key, types, where)


def reward_of(value: Any, where: str, key: str = "reward") -> float:
    """`value` as a reward: a number in [0, 1]. Raises `InputError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, NUMBER) or not 0.0 <= value <= 1.0:
        number = isinstance(value, NUMBER) and not isinstance(value, bool)
        hint = "scale rewards to [0, 1]" if number else "write the reward as a number: 0, 1, 0.5"
        raise bad(where, key, f"{brief(value)} is not a number in [0, 1]", hint)
    return float(value)


def bad(where: str, key: str, problem: str, hint: str = "") -> InputError:
    """An `InputError` at a field of an item."""
    return InputError(
        problem,
        where=joined(where, f"field '{key}'"),
        hint=hint or "correct this field, or delete the item",
    )


def joined(where: str, part: str) -> str:
    """The place `part` within `where`, which may be ""."""
    return f"{where}, {part}" if where else part


def _checked(value: Any, key: str, types: type | tuple[type, ...], where: str) -> Any:
    kinds = types if isinstance(types, tuple) else (types,)
    # bool is a subclass of int, but true is not a number here.
    if not isinstance(value, kinds) or (isinstance(value, bool) and not {bool, object} & set(kinds)):
        names = " or ".join(_JSON_NAMES.get(each, each.__name__) for each in kinds)
        given = "null" if value is None else _JSON_NAMES.get(type(value), type(value).__name__)
        raise bad(where, key, f"expected {names}, found {given}")
    return value


_JSON_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def is_finite(value: float) -> bool:
    """Whether a number is neither infinite, NaN, nor beyond the largest float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_object(text: str) -> bool:
    """Whether `text` is the JSON of an object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


_AFTER: dict[str, tuple[Role, ...]] = {
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool", "user"),
}


def check_prompt(messages: Sequence[Message], where: str) -> None:
    """Raise `InputError` unless, after an optional system message, user and assistant take turns up to
    a user message. Tool results may stand where a user message may, also several, and before one."""
    rest = messages[1:] if messages and messages[0].role == "system" else messages
    expected: tuple[Role, ...] = ("user",)
    for number, message in enumerate(rest, start=len(messages) - len(rest)):
        if message.role not in expected:
            raise InputError(
                f"roles out of order: {message.role} where {expected[0]} was expected",
                where=f"{where}, message {number}",
                hint="let user and assistant take turns, after at most one system message",
            )
        expected = _AFTER[message.role]
    if not rest or rest[-1].role == "assistant":
        raise InputError(
            "the prompt does not end on a user message",
            where=where,
            hint="put the task, as the user's message, before the agent's first turn",
        )
