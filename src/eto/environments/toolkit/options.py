"""Values of a suite's options, checked against the annotations of its constructor."""

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
            raise InputError(problem, where=f"{name}.{option}", hint=words if chosen else f"give {words}")


def _fits(value: Any, declared: Any) -> bool:
    origin, inside = get_origin(declared) or declared, get_args(declared)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inside)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin in (list, Sequence):
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return listed and all(_fits(one, inside[0]) for one in value if inside)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    try:
        return isinstance(value, origin)
    except TypeError:  # Any, a protocol, a type variable: nothing to hold a value against
        return True


def in_words(declared: Any) -> str:
    """A type as a recipe's author knows it: `an integer or null`."""
    origin, inside = get_origin(declared) or declared, get_args(declared)
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}" if len(inside) > 1 else str(inside[0])
    if origin in (Union, types.UnionType):
        return " or ".join(map(in_words, inside))
    if origin in (list, Sequence):
        return f"a list of {_MANY.get(inside[0], in_words(inside[0]))}" if inside else "a list"
    if origin in (dict, Mapping):
        return "a mapping"
    return _WORDS.get(origin) or str(getattr(origin, "__name__", origin))
