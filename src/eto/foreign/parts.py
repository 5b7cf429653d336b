"""Content of a message in parts: texts, and the thoughts, calls and results of Anthropic's form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from eto.checks import bad, need
from eto.errors import InputError
from eto.foreign.calls import call_of
from eto.notes import Notes
from eto.texts import brief
from eto.types import Message, ToolCall

_TEXT_PARTS = ("text", "input_text", "output_text")
_FIELDS: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys((*_TEXT_PARTS, None), ("type", "text")),
    "thinking": ("type", "thinking"),
    "tool_use": ("type", "id", "name", "input"),
    "tool_result": ("type", "tool_use_id", "content"),
}
_OF_NO_EFFECT = ("cache_control", "annotations", "citations", "signature", "is_error", "id")


@dataclass(frozen=True, slots=True)
class Parts:
    """The content of a message, by kind."""

    text: str = ""
    thoughts: str = ""
    calls: tuple[ToolCall, ...] = ()
    answers: tuple[Message, ...] = ()


def read_parts(content: Any, where: str, key: str, notes: Notes) -> Parts:
    """The content of a message: a text, or a list of parts. Raises `InputError` for what is no text."""
    if content is None or isinstance(content, str):
        return Parts(content or "")
    if not isinstance(content, list):
        raise bad(where, key, f"expected text or a list of parts, found {brief(content)}")
    made = Parts()
    for number, part in enumerate(content):
        place = f"{where}, {key}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        _check_part(part, kind, place, notes)
        if isinstance(part, str):
            made = replace(made, text=made.text + part)
        elif kind in _TEXT_PARTS or (kind is None and isinstance(part, dict) and "text" in part):
            if made.calls:
                raise InputError("text after a call", where=place, mend="put the text before the calls")
            made = replace(made, text=made.text + need(part, "text", str, place))
        elif kind == "thinking":
            if made.text or made.calls:
                raise InputError("thoughts after the text", where=place, mend="put the thoughts first")
            made = replace(made, thoughts=made.thoughts + need(part, "thinking", str, place))
        elif kind == "tool_use":
            call = call_of({key: part.get(key) for key in _FIELDS[kind]}, place)
            made = replace(made, calls=(*made.calls, call))
        elif kind == "tool_result":
            if made.text:
                raise InputError("a tool's result after text", where=place, mend="put the results first")
            made = replace(made, answers=(*made.answers, _result(part, place, notes)))
        else:
            raise InputError(
                f"a part of type {kind!r} cannot be trained on",
                where=place,
                mend="keep parts of type text, or delete the item",
            )
    return made


def _check_part(part: Any, kind: Any, where: str, notes: Notes) -> None:
    """Raise for a field of a part that is not read: loss falls on whole turns, not on their parts."""
    for key, value in part.items() if isinstance(part, dict) and isinstance(kind, str | None) else ():
        if kind in _FIELDS and key not in _FIELDS[kind] and value not in (None, "", [], {}):
            if key not in _OF_NO_EFFECT:
                raise bad(
                    where, key, f"is not read in a part of type {kind!r}", "mark whole messages, or delete it"
                )
            notes.ignored[key] += 1


def _result(part: dict[str, Any], where: str, notes: Notes) -> Message:
    inner = read_parts(part.get("content"), where, "content", notes)
    if inner.thoughts or inner.calls or inner.answers:
        raise InputError("a tool's result holds other than text", where=where, mend="keep its text")
    return Message("tool", inner.text, tool_call_id=text_at(part, "tool_use_id", where))


def text_at(value: dict[str, Any], key: str, where: str) -> str:
    """`value[key]`, which must be text; "" where it is missing or null."""
    return "" if value.get(key) is None else need(value, key, str, where)
