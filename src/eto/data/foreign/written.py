"""Pairs in the forms of other tools: ShareGPT and TRL conversational preference."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from eto.errors import InputError
from eto.types import Message, Pair, Trajectory

_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
Say = Callable[[Message, bool], dict[str, Any]]


def pair_to_sharegpt(pair: Pair) -> dict[str, Any]:
    """`id`, and `prompt`, `chosen`, `rejected` as lists of `from`/`value`, as the ETO code reads.

    A turn without loss is marked `"loss": false`. Raises `InputError` for calls and thoughts,
    which this form has no place for, and for turns that begin afresh.
    """
    if pair.chosen.tools or pair.rejected.tools:
        raise no_place(pair.task.id, "tools")
    return {
        "id": pair.task.id,
        **_sides(pair, partial(said_in_sharegpt, task=pair.task.id)),
    }


def pair_to_trl(pair: Pair) -> dict[str, Any]:
    """`prompt`, `chosen`, `rejected` as lists of `role`/`content` (TRL conversational preference),
    with `tools` where there are any. Raises `InputError` for a turn without loss, which TRL would train,
    and for turns that begin afresh."""
    tools = {"tools": [dict(tool) for tool in pair.chosen.tools]} if pair.chosen.tools else {}
    return {
        "id": pair.task.id,
        **_sides(pair, partial(said_in_trl, task=pair.task.id)),
        **tools,
    }


def _sides(pair: Pair, say: Say) -> dict[str, Any]:
    return {
        "prompt": [say(each, True) for each in pair.chosen.messages],
        "chosen": exchange(pair.chosen, say),
        "rejected": exchange(pair.rejected, say),
    }


def exchange(trajectory: Trajectory, say: Say) -> list[dict[str, Any]]:
    """Actions and observations in turn, ending on an action: nothing answers the last observation.

    Raises `InputError` for turns that begin afresh.
    """
    if any(turn.afresh for turn in trajectory.turns[:-1]):
        raise InputError(
            "a conversation has no place for turns that begin afresh",
            where=trajectory.task.id,
            hint="use --format own",
        )
    said: list[dict[str, Any]] = []
    for number, turn in enumerate(trajectory.turns):
        reply = Message("assistant", turn.action, reasoning=turn.reasoning, tool_calls=turn.tool_calls)
        said.append(say(reply, turn.loss))
        if number + 1 < len(trajectory.turns):
            said += [say(each, True) for each in turn.answers or (Message("user", turn.observation),)]
    return said


def said_in_sharegpt(message: Message, loss: bool, task: str) -> dict[str, Any]:
    """`from` and `value`, and `loss` where none falls on it. Raises `InputError` for calls and thoughts."""
    if message.role not in _SPEAKERS or message.tool_calls or message.reasoning:
        raise no_place(task, "function calls, their answers, or thoughts beside the text")
    said: dict[str, Any] = {"from": _SPEAKERS[message.role], "value": message.content}
    return said if loss else {**said, "loss": False}


def said_in_trl(message: Message, loss: bool, task: str) -> dict[str, Any]:
    """`role` and `content`, thoughts and calls. Raises `InputError` for a reply without loss."""
    if not loss:
        raise InputError(
            "TRL has no mark for a turn without loss, and would train it",
            where=task,
            hint="use --format own or sharegpt",
        )
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        said["reasoning_content"] = message.reasoning
    if message.tool_calls:
        said["tool_calls"] = [
            {
                "type": "function",
                **({"id": call.id} if call.id else {}),
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.tool_calls
        ]
    for key in ("tool_call_id", "name"):
        if getattr(message, key):
            said[key] = getattr(message, key)
    return said


def no_place(task: str, what: str) -> InputError:
    """What ShareGPT cannot say of a task's trajectory."""
    return InputError(f"ShareGPT has no place for {what}", where=task, hint="use another --format")
