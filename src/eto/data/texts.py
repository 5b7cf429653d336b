"""Text from elsewhere: made valid Unicode, and shown so that no control sequence in it takes effect."""

from __future__ import annotations

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SURROGATE = re.compile("[\ud800-\udfff]")
# Control characters except for line break and tab, and those that turn the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_BREAK = re.compile("[\t\n\u2028\u2029]")
_MARKDOWN = re.compile(r"[\\`*|<>\[\]$]|(?<!\w)_|_(?!\w)")


def whole(text: str) -> str:
    """`text` as Unicode: two halves of a UTF-16 pair become their character, a lone half U+FFFD."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def shown(text: object, *, line: bool = False) -> str:
    """`text` for a terminal or a report: control characters as escapes such as `\\x1b`, lone surrogates
    as U+FFFD; with `line` also line breaks and tabs, so that it stays in its line or cell."""
    escaped = _CONTROL.sub(_escape, whole(str(text)))
    return _BREAK.sub(_escape, escaped) if line else escaped


def markdown_text(text: object) -> str:
    """`text` in a line or cell of Markdown, with the characters escaped that would change its form."""
    return _MARKDOWN.sub(r"\\\g<0>", shown(text, line=True))


def markdown_code(text: object) -> str:
    """`text` as a code span that may stand in a table's cell."""
    code = shown(text, line=True).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence, space = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{space}{code}{space}{fence}"


def counted(number: float, noun: str, nouns: str = "") -> str:
    """`1 task`, `2 tasks`; `nouns` where an s makes no plural."""
    shown = f"{number:g}" if isinstance(number, float) else number
    return f"{shown} {noun if number == 1 else nouns or f'{noun}s'}"


def brief(value: object, longest: int = 80) -> str:
    """`repr(value)`, shortened in its middle: for messages about values of any size."""
    try:
        short = repr(value)
    except (RecursionError, ValueError):  # nested without end, or an integer of thousands of digits
        return f"a {type(value).__name__} too large to show"
    return shorten(short, longest)


def shorten(text: str, longest: int) -> str:
    """`text`, or its start and end where it is longer."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
