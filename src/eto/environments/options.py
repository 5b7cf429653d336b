"""Values of a suite's options, held against the annotations of its constructor."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from eto.errors import InputError

_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    type(None): "null",
}
_MANY = {int: "integers", float: "numbers", str: "texts"}


def check_types(suite: Callable[..., Any], options: Mapping[str, Any], name: str) -> None:
    """Raises `InputError` for an option of another type than the constructor `suite` declares.

    name: of the suite, for the message. An integer passes for a float, a tuple for a list. Options
    without an annotation, or with one that cannot be resolved, are not checked.
    """
    try:
        declared = get_type_hints(suite.__init__ if isinstance(suite, type) else suite)  # type: ignore[misc]
    except (NameError, TypeError):
        return
    for option, value in options.items():
        if option in declared and not _fits(value, declared[option]):
            words = in_words(declared[option])
            chosen = isinstance(value, str) and get_origin(declared[option]) is Literal
            problem = f"unknown choice {value!r}" if chosen else f"{value!r} is not {words}"
            raise InputError(problem, where=f"{name}.{option}", mend=words if chosen else f"give {words}")


def _fits(value: Any, declared: Any) -> bool:
    kind, inside = get_origin(declared) or declared, get_args(declared)
    if kind is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inside)
    if kind in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (list, Sequence):
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return listed and all(_fits(one, inside[0]) for one in value if inside)
    if kind in (dict, Mapping):
        return isinstance(value, Mapping)
    try:
        return isinstance(value, kind)
    except TypeError:  # Any, a protocol, a type variable: nothing to hold a value against
        return True


def in_words(declared: Any) -> str:
    """A type as a recipe's author knows it: `an integer or null`."""
    kind, inside = get_origin(declared) or declared, get_args(declared)
    if kind is Literal:
        return f"one of {', '.join(map(str, inside))}" if len(inside) > 1 else str(inside[0])
    if kind in (Union, types.UnionType):
        return " or ".join(map(in_words, inside))
    if kind in (list, Sequence):
        return f"a list of {_MANY.get(inside[0], in_words(inside[0]))}" if inside else "a list"
    if kind in (dict, Mapping):
        return "a mapping"
    return _WORDS.get(kind) or str(getattr(kind, "__name__", kind))
