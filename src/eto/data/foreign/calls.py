"""Function calls and their schemas, in the forms that other programs write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eto.data.checks import bad, need
from eto.data.jsontext import parse_json
from eto.data.texts import brief
from eto.errors import InputError
from eto.types import ToolCall


def calls_of(message: Mapping[str, Any], where: str) -> tuple[ToolCall, ...]:
    """The calls of a message: `tool_calls`, or the old `function_call`."""
    given = [key for key in ("tool_calls", "function_call") if message.get(key) not in (None, "", [], {})]
    if len(given) > 1:
        raise bad(where, "function_call", "is given together with 'tool_calls'", "keep one of the two")
    if not given:
        return ()
    if given == ["function_call"]:
        return (call_of(message["function_call"], f"{where}, function_call"),)
    many = message["tool_calls"]
    if not isinstance(many, list):
        raise bad(where, "tool_calls", f"expected a list, found {brief(many)}")
    return tuple(call_of(call, f"{where}, tool_calls[{number}]") for number, call in enumerate(many))


def calls_in_text(text: str, where: str) -> tuple[ToolCall, ...]:
    """The calls that a message of role `function_call` spells as JSON: one, or a list."""
    value = parse_json(text, where)
    calls = value if isinstance(value, list) else [value]
    if not calls:
        raise InputError("no call", where=where, hint="delete the message")
    return tuple(call_of(call, where) for call in calls)


def call_of(value: Any, where: str) -> ToolCall:
    """One call: `{"id", "function": {"name", "arguments"}}`, or name and arguments (or input) at once."""
    if not isinstance(value, dict):
        raise InputError(
            f"expected an object, a call, found {brief(value)}", where=where, hint="give its name"
        )
    if value.get("type") not in (None, "function", "tool_use"):
        raise bad(where, "type", f"a call of type {brief(value['type'])} is not read", "use type function")
    inner = value.get("function")
    if inner is not None and not isinstance(inner, dict):
        raise bad(where, "function", f"expected an object, found {brief(inner)}")
    body = value if inner is None else inner
    name = need(body, "name", str, where)
    if not name:
        raise bad(where, "name", "the name is empty", "give the function's name")
    given = [key for key in ("arguments", "parameters", "input") if body.get(key) is not None]
    inside = {"name", "arguments", "parameters", "input"}
    outside = {"id", "type", "function", "index"} | (inside if inner is None else set())
    strange = [key for key in value if key not in outside] + [key for key in inner or () if key not in inside]
    for key in strange:
        if {**value, **body}[key] not in (None, "", [], {}):
            raise bad(where, key, "unknown field of a call", "delete it")
    if len(given) > 1:
        raise bad(where, given[1], f"is given together with {given[0]!r}", "keep one of the two")
    arguments = _arguments(body[given[0]], where, given[0]) if given else "{}"
    call_id = value.get("id")
    return ToolCall(name, arguments, "" if call_id is None else need(value, "id", str, where))


def _arguments(value: Any, where: str, key: str) -> str:
    """The arguments as JSON text; as its author wrote it where it is one."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        raise bad(where, key, f"expected an object or its JSON text, found {brief(value)}")
    if not value.strip():
        return "{}"
    if not isinstance(parse_json(value, f"{where}, field '{key}'"), dict):
        raise bad(where, key, "the JSON text is not an object", "give the arguments by name")
    return value


def tools_of(item: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    """The functions an item offers, in the form that chat templates take."""
    given = [key for key in ("tools", "functions") if item.get(key) not in (None, "", [])]
    if not given:
        return ()
    if len(given) > 1:
        raise bad(where, "functions", "is given together with 'tools'", "keep one of the two")
    key = given[0]
    value = item[key]
    if isinstance(value, str):
        value = parse_json(value, f"{where}, field '{key}'")
    if not isinstance(value, list):
        raise bad(where, key, f"expected a list of functions, found {brief(value)}")
    return tuple(_schema(tool, f"{where}, {key}[{number}]") for number, tool in enumerate(value))


def _schema(tool: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(tool, dict):
        raise InputError(
            f"expected an object, a function, found {brief(tool)}", where=where, hint="give its schema"
        )
    if tool.get("type") not in (None, "function", "custom", "object"):
        raise bad(where, "type", f"a tool of type {brief(tool['type'])} is not read", "use type function")
    if isinstance(tool.get("function"), dict):
        need(tool["function"], "name", str, f"{where}, function")
        return {"type": "function", **tool}
    need(tool, "name", str, where)
    inner = {key: value for key, value in tool.items() if key not in ("type", "input_schema")}
    if "input_schema" in tool:
        inner["parameters"] = tool["input_schema"]
    return {"type": "function", "function": inner}
