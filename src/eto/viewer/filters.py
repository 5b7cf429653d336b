"""Filter expressions over episodes: `reward < 0.5 and kind = find-plant and turns > 10`.

filter     = condition { ("and" | "or") condition }, from the left
condition  = [ "not" ] field operator value
operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" (contains)
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence

from eto.errors import InputError
from eto.viewer.index import Entry, EpisodeIndex

Test = Callable[[Entry], bool]
FIELDS = (
    "phase",
    "task",
    "kind",
    "reward",
    "success",
    "outcome",
    "stop",
    "turns",
    "source",
    "sample",
    "failed",
)
_NUMBERS = {"reward", "turns", "sample"}
_OPERATORS: dict[str, Callable[[object, object], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
    "~": lambda value, part: str(part).lower() in str(value).lower(),
}
_TOKEN = re.compile(r"""\s*("[^"]*"|'[^']*'|<=|>=|!=|[=<>~]|[^\s=<>~!"']+)""")
EXAMPLE = "for example: reward < 0.5 and kind = find-plant"


def parse_filter(text: str) -> Test:
    """What `text` lets through; everything where it is empty. Raises `InputError` that names the place."""
    tokens = _tokens(text)
    if not tokens:
        return lambda entry: True
    first, at = _condition(tokens, 0)
    others: list[tuple[str, Test]] = []
    while at < len(tokens):
        word = tokens[at].lower()
        if word not in ("and", "or"):
            raise _fault(f"{tokens[at]!r} stands where `and` or `or` is expected")
        other, at = _condition(tokens, at + 1)
        others.append((word, other))

    def found(entry: Entry) -> bool:
        fits = first(entry)
        for word, other in others:
            fits = fits and other(entry) if word == "and" else fits or other(entry)
        return fits

    return found


def matching(index: EpisodeIndex, entries: Sequence[Entry], text: str) -> list[Entry]:
    """Those of `entries` whose prompt, actions or observations contain `text`, in whatever case."""
    rows = index.rows_with(text)
    return [entry for entry in entries if entry.row in rows]


def _condition(tokens: Sequence[str], at: int) -> tuple[Test, int]:
    begin = at
    while at < len(tokens) and tokens[at].lower() == "not":
        at += 1
    refused = (at - begin) % 2 == 1
    if at + 3 > len(tokens):
        raise _fault("it ends in the middle of a condition")
    field, sign, given = tokens[at], tokens[at + 1], tokens[at + 2].strip("\"'")
    if field not in FIELDS:
        raise _fault(f"episodes have no {field!r}, but {', '.join(FIELDS)}")
    if sign not in _OPERATORS:
        raise _fault(f"{sign!r} is no comparison")
    value = _value(field, sign, given)
    compare = _OPERATORS[sign]

    def test(entry: Entry) -> bool:
        known = getattr(entry, field)
        return (known is not None and compare(known, value)) != refused

    return test, at + 3


def _value(field: str, sign: str, given: str) -> object:
    if sign == "~":
        return given
    if field in _NUMBERS:
        try:
            return float(given)
        except ValueError:
            raise _fault(f"{field} is compared with a number, not {given!r}") from None
    if field in ("success", "failed"):
        if given.lower() not in ("true", "false"):
            raise _fault(f"{field} is true or false, not {given!r}")
        return given.lower() == "true"
    return given


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _fault(f"{text[at:].strip()[:20]!r} cannot be read")
        found.append(match.group(1))
        at = match.end()
    return found


def _fault(problem: str) -> InputError:
    return InputError(problem, where="filter", hint=EXAMPLE)
