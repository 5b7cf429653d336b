"""JSON from elsewhere, parsed so that each fault is reported as what it is.

Stricter than `json.loads` where that would pass something over (a key that stands twice keeps
its last value) or break later (nesting, whole numbers of thousands of digits), and milder with
an unpaired surrogate, which has no UTF-8 form: it becomes U+FFFD and is counted.
"""

from __future__ import annotations

import json
import re
from typing import Any

from eto.data.notes import Notes
from eto.data.texts import whole
from eto.errors import InputError

MOST_DEPTH = 200
"""Levels of nesting that a value may have."""
REPLACED = "halves of UTF-16 pairs (lone surrogates) replaced by U+FFFD"

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class _TwiceError(ValueError):
    """A key that stands twice in one object."""


def parse_json(text: str, where: str, notes: Notes | None = None, *, is_last: bool = False) -> Any:
    """The JSON value of `text`. Raises `InputError` naming `where` and the cause.

    `is_last`: nothing follows in the file, so that an end within a value means a file cut short.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise _invalid(error, text, where, is_last=is_last) from error
    except _TwiceError as error:
        raise InputError(
            f"the key {error} stands twice in one object", where=where, hint="keep one of the two"
        ) from error
    except RecursionError as error:
        raise _too_deep(where) from error
    except ValueError as error:  # int() refuses thousands of digits
        raise InputError(
            "a whole number has thousands of digits",
            where=where,
            hint="correct the number, or write it as text",
        ) from error
    if _ESCAPED_HALF.search(text) or _HALF.search(text) or text.count("[") + text.count("{") > MOST_DEPTH:
        return _cleaned(value, where, notes if notes is not None else Notes(), 0)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(repr(next(key for key in keys if keys.count(key) > 1)))
    return made


def _cleaned(value: Any, where: str, notes: Notes, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise _too_deep(where)
    if isinstance(value, str):
        if count := len(_HALF.findall(value)):
            notes.events[REPLACED] += count
        return whole(value)
    if isinstance(value, list):
        return [_cleaned(each, where, notes, depth + 1) for each in value]
    if isinstance(value, dict):
        return {
            _cleaned(key, where, notes, depth): _cleaned(each, where, notes, depth + 1)
            for key, each in value.items()
        }
    return value


def _too_deep(where: str) -> InputError:
    return InputError(
        f"nested more than {MOST_DEPTH} levels deep",
        where=where,
        hint="flatten the value, or delete the item",
    )


def _invalid(error: json.JSONDecodeError, text: str, where: str, *, is_last: bool) -> InputError:
    place = f"{where}, line {error.lineno}" if error.lineno > 1 else where
    # An unterminated text is reported where it starts.
    ended = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    if ended and is_last:
        return InputError(
            f"not valid JSON at column {error.colno}: the file ends within it",
            where=place,
            hint="it was cut short: write or copy it again, or delete this last piece",
        )
    return InputError(
        f"not valid JSON at column {error.colno}: {error.msg}",
        where=place,
        hint="correct the text there, or delete the item",
    )
