"""Content of a message in parts: texts, and the thoughts, calls and results of Anthropic's form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from eto.data.checks import bad, need
from eto.data.foreign.calls import call_of
from eto.data.notes import Notes
from eto.data.texts import brief
from eto.errors import InputError
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
    """The content of a message: a text, or a list of parts. Raises `InputError` for what is not text."""
    if content is None or isinstance(content, str):
        return Parts(content or "")
    if not isinstance(content, list):
        raise bad(where, key, f"expected text or a list of parts, found {brief(content)}")
    made = Parts()
    for number, part in enumerate(content):
        place = f"{where}, {key}[{number}]"
        part_type = part.get("type") if isinstance(part, dict) else None
        _check_part(part, part_type, place, notes)
        if isinstance(part, str):
            made = replace(made, text=made.text + part)
        elif part_type in _TEXT_PARTS or (part_type is None and isinstance(part, dict) and "text" in part):
            if made.calls:
                raise InputError("text after a call", where=place, hint="put the text before the calls")
            made = replace(made, text=made.text + need(part, "text", str, place))
        elif part_type == "thinking":
            if made.text or made.calls:
                raise InputError("thoughts after the text", where=place, hint="put the thoughts first")
            made = replace(made, thoughts=made.thoughts + need(part, "thinking", str, place))
        elif part_type == "tool_use":
            call = call_of({key: part.get(key) for key in _FIELDS[part_type]}, place)
            made = replace(made, calls=(*made.calls, call))
        elif part_type == "tool_result":
            if made.text:
                raise InputError("a tool's result after text", where=place, hint="put the results first")
            made = replace(made, answers=(*made.answers, _result(part, place, notes)))
        else:
            raise InputError(
                f"a part of type {part_type!r} cannot be trained on",
                where=place,
                hint="keep parts of type text, or delete the item",
            )
    return made


def _check_part(part: Any, part_type: Any, where: str, notes: Notes) -> None:
    """Raise for a field of a part that is not read: loss falls on whole turns, not on their parts."""
    for key, value in part.items() if isinstance(part, dict) and isinstance(part_type, str | None) else ():
        if part_type in _FIELDS and key not in _FIELDS[part_type] and value not in (None, "", [], {}):
            if key not in _OF_NO_EFFECT:
                raise bad(
                    where,
                    key,
                    f"is not read in a part of type {part_type!r}",
                    "mark whole messages, or delete it",
                )
            notes.ignored[key] += 1


def _result(part: dict[str, Any], where: str, notes: Notes) -> Message:
    inner = read_parts(part.get("content"), where, "content", notes)
    if inner.thoughts or inner.calls or inner.answers:
        raise InputError("a tool's result holds other than text", where=where, hint="keep its text")
    return Message("tool", inner.text, tool_call_id=text_at(part, "tool_use_id", where))


def text_at(value: dict[str, Any], key: str, where: str) -> str:
    """`value[key]`, which must be text; "" where it is missing or null."""
    return "" if value.get(key) is None else need(value, key, str, where)
