"""Messages of other trainers, one by one: who speaks, text, calls, thoughts, and whether to learn it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from eto.data.checks import bad, need
from eto.data.foreign.calls import calls_in_text, calls_of
from eto.data.foreign.lists import LOSS_FLAGS, MESSAGE
from eto.data.foreign.parts import Parts, read_parts, text_at
from eto.data.notes import Notes
from eto.data.texts import brief
from eto.errors import InputError
from eto.types import Message, Role, ToolCall, Turn

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
CALLS_AS_TEXT = ("function_call", "tool_call")
"""Roles whose text is the JSON of calls; after a reply of the agent they belong to it."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_OF_AGENT = ("tool_calls", "function_call", *_THOUGHTS)
_OF_TOOL = ("name", "tool_call_id", "tool_use_id")


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a conversation."""

    message: Message
    where: str
    loss: bool | None = None
    """What the item says of it; None where it says nothing."""
    joins: bool = False
    """These calls belong to the agent's message before them, where there is one."""

    @property
    def role(self) -> Role:
        return self.message.role


def read_messages(values: Any, where: str, key: str, notes: Notes) -> list[Said]:
    """The messages of a list. Raises `InputError` naming `where`, the message and the field."""
    if not isinstance(values, list):
        raise bad(where, key, f"expected a list of messages, found {brief(values)}", "give a list of objects")
    said: list[Said] = []
    for number, value in enumerate(values):
        for each in read_message(value, f"{where}, {key}[{number}]", notes):
            if each.joins and said and said[-1].role == "assistant":
                said[-1] = _with_calls(said[-1], each)
            else:
                said.append(each)
    return said


def _with_calls(reply: Said, calls: Said) -> Said:
    """A reply and the calls that belong to it, as one message."""
    marks = {reply.loss, calls.loss} - {None}
    if len(marks) > 1:
        raise InputError(
            "a reply and its calls disagree on their loss", where=calls.where, hint="mark both alike"
        )
    joined = (*reply.message.tool_calls, *calls.message.tool_calls)
    return replace(reply, message=replace(reply.message, tool_calls=joined), loss=next(iter(marks), None))


def read_message(value: Any, where: str, notes: Notes) -> list[Said]:
    """One message; several where it holds the tool results as parts (Anthropic)."""
    if not isinstance(value, dict):
        raise InputError(
            f"expected an object, a message, found {brief(value)}", where=where, hint="give role and content"
        )
    MESSAGE.check(value, where, notes)
    role_key, text_key = ("from", "value") if value.get("from") is not None else ("role", "content")
    speaker = need(value, role_key, str, where)
    if speaker not in ROLES:
        raise bad(where, role_key, f"unknown role {speaker!r}", f"use one of {', '.join(ROLES)}")
    for other in {"role", "from", "content", "value"} - {role_key, text_key}:
        if value.get(other) is not None:
            raise bad(
                where, other, f"is given together with {role_key!r} and {text_key!r}", "keep one of the two"
            )
    role = ROLES[speaker]
    loss = loss_flag(value, where)
    if role != "assistant" and loss:
        key = next(key for key in LOSS_FLAGS if value.get(key) is not None)
        raise bad(
            where, key, "asks for a loss on what the agent did not write", "delete it, or make it false"
        )
    if speaker in CALLS_AS_TEXT:
        text = need(value, text_key, str, where)
        _refuse(value, (*_OF_AGENT, *_OF_TOOL), where, speaker)
        calls = calls_in_text(text, f"{where}, field '{text_key}'")
        return [Said(Message("assistant", "", tool_calls=calls), where, loss, joins=True)]
    parts = read_parts(value.get(text_key), where, text_key, notes)
    if role == "assistant":
        return [Said(_reply(value, parts, where), where, loss)]
    _refuse(value, _OF_AGENT if role == "tool" else (*_OF_AGENT, *_OF_TOOL), where, role)
    if parts.calls or parts.thoughts:
        raise bad(
            where, text_key, f"a call or thoughts in a message of role {speaker}", "give it to the agent"
        )
    if value.get(text_key) is None:
        raise bad(where, text_key, "the field is missing")
    if role == "tool":
        if parts.answers:
            raise bad(where, text_key, "tool results inside a tool's message", "give each its own message")
        call_id = text_at(value, "tool_call_id", where) or text_at(value, "tool_use_id", where)
        answer = Message("tool", parts.text, tool_call_id=call_id, name=text_at(value, "name", where))
        return [Said(answer, where, loss)]
    answers = [Said(each, where, loss) for each in parts.answers]
    if parts.answers and not parts.text:
        return answers
    return [*answers, Said(Message(role, parts.text), where, loss)]


def _reply(value: dict[str, Any], parts: Parts, where: str) -> Message:
    if parts.answers:
        raise InputError(
            "a tool's result in a message of the agent", where=where, hint="give it to role tool"
        )
    _refuse(value, _OF_TOOL, where, "assistant")
    thoughts = {text for key in _THOUGHTS if (text := text_at(value, key, where))}
    if parts.thoughts:
        thoughts.add(parts.thoughts)
    if len(thoughts) > 1:
        raise InputError(
            "two different texts of thoughts", where=where, hint=f"keep one of {', '.join(_THOUGHTS)}"
        )
    calls = (*parts.calls, *calls_of(value, where))
    if not calls and not parts.text.strip():
        raise InputError(
            "a reply of the agent with neither text nor call",
            where=where,
            hint="delete the item: a bare end of turn would be trained",
        )
    return Message("assistant", parts.text, reasoning="".join(thoughts), tool_calls=calls)


def _refuse(value: dict[str, Any], keys: Sequence[str], where: str, role: str) -> None:
    """Raise for a field of `keys` that a message of `role` has: nothing would come of it."""
    for key in keys:
        if value.get(key) not in (None, "", []):
            what = f"has no meaning in a message of role {role}"
            raise bad(where, key, what, "delete it, or write it into the text")


def loss_flag(value: dict[str, Any], where: str) -> bool | None:
    """Whether loss falls on a message or an item; None where it does not say. Raises for halves and texts."""
    flags = {}
    for key in LOSS_FLAGS:
        flag = value.get(key)
        if flag is None:
            continue
        if not isinstance(flag, bool | int | float) or flag not in (0, 1):
            raise bad(where, key, f"{brief(flag)} is neither true nor false", "give true or 1, false or 0")
        flags[key] = bool(flag)
    if len(set(flags.values())) > 1:
        raise InputError(
            f"the fields {', '.join(flags)} disagree on the loss", where=where, hint="keep one of them"
        )
    return next(iter(flags.values()), None)


def check_order(said: Sequence[Said], *, begins: Role = "user") -> None:
    """Raise `InputError` unless roles follow one another: the agent, then an observation.

    An observation is one message of the user, or tool results and at most one message of the
    user after them. A tool's answer must name a call of the agent's last message, where it names one.
    """
    before: Role | None = None
    calls: tuple[ToolCall, ...] = ()
    for each in said:
        expected: tuple[Role, ...] = {
            None: (begins,),
            "user": ("assistant",),
            "assistant": ("user", "tool"),
            "tool": ("assistant", "tool", "user"),
        }[before]
        if each.role not in expected:
            raise InputError(
                f"roles out of order: {each.role} where {expected[0]} was expected",
                where=each.where,
                hint="let user (or tools) and agent take turns, after at most one system message",
            )
        named = {call.id for call in calls if call.id}
        if each.role == "assistant":
            calls = each.message.tool_calls
        elif each.message.tool_call_id and named and each.message.tool_call_id not in named:
            raise bad(
                each.where,
                "tool_call_id",
                f"answers {each.message.tool_call_id!r}, which the agent did not call",
                f"use one of {', '.join(sorted(named))}",
            )
        before = each.role


def turns_of(said: Sequence[Said], reward: float) -> tuple[Turn, ...]:
    """Turns of an exchange that begins with the agent. Only the last one's reward is known."""
    starts = [at for at, each in enumerate(said) if each.role == "assistant"]
    turns = []
    for at, end in zip(starts, [*starts[1:], len(said)], strict=False):
        reply, heard = said[at], [each.message for each in said[at + 1 : end]]
        turns.append(
            Turn(
                reply.message.content,
                "\n".join(message.content for message in heard),
                reward if end == len(said) else 0.0,
                reasoning=reply.message.reasoning,
                tool_calls=reply.message.tool_calls,
                answers=tuple(heard) if any(message.role == "tool" for message in heard) else (),
                loss=reply.loss is not False,
            )
        )
    return tuple(turns)
