"""Columns of the tables that records and other tools' items are written to.

Fields that hold any JSON (payloads, schemas of functions, arguments of calls) are columns of text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from eto.types import Pair, Trajectory

ANY_JSON = ("payload", "tools", "arguments")

Kind = str | list["Kind"] | dict[str, "Kind"]
"""A column: a scalar (`text`, `int`, `float`, `bool`), a list of one kind, or a struct."""

_CALLS: Kind = [{"id": "text", "type": "text", "function": {"name": "text", "arguments": "text"}}]
_SAID: Kind = [
    {
        **{"role": "text", "content": "text", "reasoning_content": "text", "tool_calls": _CALLS},
        **{"tool_call_id": "text", "name": "text", "weight": "int"},
    }
]
_SHARED: Kind = [{"from": "text", "value": "text", "loss": "bool"}]
_HEAD: dict[str, Kind] = {"source": "text", "reward": "float", "success": "bool", "prompt_messages": "int"}
FOREIGN: Mapping[str, dict[str, Kind]] = {
    "trajectory/sharegpt": {"id": "text", **_HEAD, "conversations": _SHARED},
    "trajectory/agenttraj": {"item_id": "text", **_HEAD, "conversations": _SHARED},
    "trajectory/openai": {"id": "text", **_HEAD, "messages": _SAID, "tools": "text"},
    "trajectory/trl": {"id": "text", **_HEAD, "messages": _SAID, "tools": "text"},
    "pair/sharegpt": {"id": "text", "prompt": _SHARED, "chosen": _SHARED, "rejected": _SHARED},
    "pair/trl": {"id": "text", "prompt": _SAID, "chosen": _SAID, "rejected": _SAID, "tools": "text"},
}


@cache
def columns_of(kind: str, form: str) -> dict[str, Kind]:
    """The columns of a `trajectory` or `pair` in a form: name -> kind, nested as the item is."""
    if form != "own":
        return FOREIGN[f"{kind}/{form}"]
    made = _kind(Trajectory if kind == "trajectory" else Pair)
    assert isinstance(made, dict)
    return made


def _kind(hint: Any) -> Kind:
    """The column of a field of our own records, by its type."""
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return {
            field.name: "text" if field.name in ANY_JSON else _kind(hints[field.name])
            for field in fields(hint)
        }
    if NoneType in get_args(hint):
        return _kind(next(each for each in get_args(hint) if each is not NoneType))
    if get_origin(hint) is tuple:
        return [_kind(get_args(hint)[0])]
    return {bool: "bool", int: "int", float: "float"}.get(hint, "text")


def packed(value: Any) -> Any:
    """`value` with everything that holds any JSON as its text."""
    if isinstance(value, list):
        return [packed(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: json.dumps(each, ensure_ascii=False)
        if key in ANY_JSON and not isinstance(each, str)
        else packed(each)
        for key, each in value.items()
    }


def seen_in(value: Mapping[str, Any], into: dict[str, Any]) -> None:
    """Note in `into` which fields `value` has, nested as they are; null is none."""
    for key, each in value.items():
        if each is None:
            continue
        inner = into.setdefault(key, {})
        for one in each if isinstance(each, list) else [each]:
            if isinstance(one, dict):
                seen_in(one, inner)


def narrowed(columns: Mapping[str, Kind], seen: Mapping[str, Any]) -> dict[str, Kind]:
    """`columns` that hold something: a template takes `tool_calls` that are null for calls."""
    made: dict[str, Kind] = {}
    for name, kind in columns.items():
        if name not in seen:
            continue
        inner = kind[0] if isinstance(kind, list) else kind
        if isinstance(inner, dict):
            inner = narrowed(inner, seen[name]) or inner
        made[name] = [inner] if isinstance(kind, list) else inner
    return made
