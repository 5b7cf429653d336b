"""Trajectories and pairs as JSON objects: the project's own format, one object a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from eto.checks import NUMBER, bad, check_prompt, is_finite, is_object, need, optional, reward_of
from eto.contrast import shared_turns
from eto.errors import InputError
from eto.texts import brief
from eto.types import FAILED, Message, Pair, PairKind, Role, StopReason, Task, ToolCall, Trajectory, Turn

_MOST = 2**63 - 1
"""What whole numbers may come to in the store."""
_MOST_TOKEN = 2**31 - 1

OWN_FIELDS: dict[str, tuple[str, ...]] = {
    "trajectory": (
        *("task", "source", "sample", "seed", "reward", "success", "stop", "messages", "turns"),
        *("score", "tokenizer", "detail", "tools"),
    ),
    "task": ("id", "environment", "kind", "split", "payload"),
    "message": ("role", "content", "reasoning", "tool_calls", "tool_call_id", "name"),
    "turn": (
        *("action", "observation", "reward", "action_ids", "reasoning", "tool_calls", "answers", "loss"),
    ),
    "call": ("name", "arguments", "id"),
    "pair": ("task", "kind", "shared_turns", "chosen", "rejected"),
}
"""Every field of our own records; any other but `META` is refused."""
META = ("meta",)
"""Anybody's own notes: read past."""


def trajectory_to_record(trajectory: Trajectory) -> dict[str, Any]:
    """The JSON object of a trajectory; fields at their empty value are left out."""
    return {"task": _task_to_record(trajectory.task), **_episode_to_record(trajectory)}


def trajectory_from_record(record: dict[str, Any], where: str = "") -> Trajectory:
    """The trajectory of a JSON object. Raises `InputError` naming `where` and the field."""
    return _episode_from_record(_task_from_record(record, where), record, where)


def pair_to_record(pair: Pair) -> dict[str, Any]:
    """The JSON object of a pair: the task once, then both sides."""
    return {
        "task": _task_to_record(pair.task),
        "kind": pair.kind,
        "shared_turns": pair.shared_turns,
        "chosen": _episode_to_record(pair.chosen),
        "rejected": _episode_to_record(pair.rejected),
    }


def pair_from_record(record: dict[str, Any], where: str = "") -> Pair:
    """The pair of a JSON object. Raises `InputError` naming `where` and the field.

    Both sides follow one prompt and offer one set of functions, neither failed, and the chosen
    one's reward is not the lower.
    """
    known(record, "pair", where)
    task = _task_from_record(record, where)
    sides = []
    for side in ("chosen", "rejected"):
        episode, place = need(record, side, dict, where), f"{where}, {side}" if where else side
        if episode.get("task", record["task"]) != record["task"]:
            raise bad(place, "task", "is not the task of the pair", "pair trajectories of one task")
        sides.append(_episode_from_record(task, episode, place))
        if sides[-1].failed:
            raise bad(place, "stop", "a failed episode says nothing about the agent", "delete the pair")
    chosen, rejected = sides
    kind = need(record, "kind", str, where)
    if kind not in get_args(PairKind):
        raise bad(where, "kind", f"unknown kind {kind!r}", f"use one of {', '.join(get_args(PairKind))}")
    _check_sides(chosen, rejected, where)
    shared = need(record, "shared_turns", int, where)
    if shared != shared_turns(chosen, rejected):
        told = f"{brief(shared)}, and {shared_turns(chosen, rejected)} leading turns are equal on both sides"
        raise bad(where, "shared_turns", told, "correct the number")
    return Pair(task, chosen, rejected, shared, kind)  # type: ignore[arg-type]


def _check_sides(chosen: Trajectory, rejected: Trajectory, where: str) -> None:
    for key in ("messages", "tools"):
        if getattr(chosen, key) != getattr(rejected, key):
            raise bad(where, key, "differ between the two sides", "pair trajectories that follow one prompt")
    if chosen.reward < rejected.reward:
        raise bad(
            where,
            "reward",
            f"the chosen side has the lower reward ({chosen.reward:g} < {rejected.reward:g})",
            "swap the sides, or delete the pair",
        )


def known(record: Mapping[str, Any], kind: str, where: str) -> None:
    """Raise `InputError` for a field that a record of this kind does not have."""
    for key, value in record.items():
        if key not in OWN_FIELDS[kind] and key not in META and value is not None:
            raise bad(
                where,
                key,
                f"a {kind} has no such field",
                f"use one of {', '.join(OWN_FIELDS[kind])}; notes of your own go under 'meta'",
            )


def _count(record: Mapping[str, Any], key: str, where: str) -> int:
    value = optional(record, key, int, where, 0)
    if not 0 <= value <= _MOST:
        raise bad(where, key, f"{brief(value)} is not a whole number from 0 to 2^63 - 1")
    return value


def _task_to_record(task: Task) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": task.id,
        "environment": task.environment,
        "kind": task.kind,
        "split": task.split,
    }
    if task.payload:
        record["payload"] = dict(task.payload)
    return record


def _task_from_record(record: dict[str, Any], where: str) -> Task:
    task = need(record, "task", dict, where)
    inner = f"{where}, task" if where else "task"
    known(task, "task", inner)
    if not need(task, "id", str, inner):
        raise bad(inner, "id", "the id is empty", "give every task a stable id")
    names = (need(task, key, str, inner) for key in ("id", "environment", "kind", "split"))
    return Task(*names, payload=optional(task, "payload", dict, inner, {}))


def _episode_to_record(trajectory: Trajectory) -> dict[str, Any]:
    record: dict[str, Any] = {
        "source": trajectory.source,
        "sample": trajectory.sample,
        "seed": trajectory.seed,
        "reward": trajectory.reward,
        "success": trajectory.success,
        "stop": str(trajectory.stop),
        "messages": [message_to_record(each) for each in trajectory.messages],
        "turns": [turn_to_record(turn) for turn in trajectory.turns],
    }
    for key in ("score", "tokenizer"):
        if getattr(trajectory, key) is not None:
            record[key] = getattr(trajectory, key)
    if trajectory.detail:
        record["detail"] = trajectory.detail
    if trajectory.tools:
        record["tools"] = [dict(tool) for tool in trajectory.tools]
    return record


def message_to_record(message: Message) -> dict[str, Any]:
    """The JSON object of a message; fields at their empty value are left out."""
    record: dict[str, Any] = {"role": message.role, "content": message.content}
    for key in ("reasoning", "tool_call_id", "name"):
        if getattr(message, key):
            record[key] = getattr(message, key)
    if message.tool_calls:
        record["tool_calls"] = [_call_to_record(call) for call in message.tool_calls]
    return record


def turn_to_record(turn: Turn) -> dict[str, Any]:
    """The JSON object of a turn; fields at their empty value are left out."""
    record: dict[str, Any] = {
        "action": turn.action,
        "observation": turn.observation,
        "reward": turn.reward,
    }
    if turn.action_ids is not None:
        record["action_ids"] = list(turn.action_ids)
    if turn.reasoning:
        record["reasoning"] = turn.reasoning
    if turn.tool_calls:
        record["tool_calls"] = [_call_to_record(call) for call in turn.tool_calls]
    if turn.answers:
        record["answers"] = [message_to_record(each) for each in turn.answers]
    if not turn.loss:
        record["loss"] = False
    return record


def _call_to_record(call: ToolCall) -> dict[str, Any]:
    record = {"name": call.name, "arguments": call.arguments}
    return {**record, "id": call.id} if call.id else record


def _episode_from_record(task: Task, record: dict[str, Any], where: str) -> Trajectory:
    known(record, "trajectory", where)
    stop = need(record, "stop", str, where)
    if stop not in tuple(StopReason):
        raise bad(where, "stop", f"unknown reason {brief(stop)}", f"use one of {', '.join(StopReason)}")
    turns = tuple(
        turn_from_record(turn, f"{where}, turn {number}")
        for number, turn in enumerate(need(record, "turns", list, where))
    )
    if not turns and StopReason(stop) not in FAILED | {StopReason.OUT_OF_TOKENS}:
        raise bad(where, "turns", "no agent turn", "delete the trajectory: there is nothing to learn from")
    tokenizer = optional(record, "tokenizer", str, where, None)
    if tokenizer is None and any(turn.action_ids is not None for turn in turns):
        raise bad(where, "tokenizer", "token ids without the tokenizer they belong to", "delete the ids")
    score = optional(record, "score", NUMBER, where, None)
    if score is not None and not is_finite(score):
        raise bad(where, "score", f"{brief(score)} is not a finite number", "correct it, or leave it out")
    tools = optional(record, "tools", list, where, [])
    if not all(isinstance(tool, dict) for tool in tools):
        raise bad(where, "tools", "expected a list of objects, the functions' schemas")
    return Trajectory(
        task=task,
        messages=_prompt_from_record(
            need(record, "messages", list, where), where, may_be_empty=StopReason(stop) in FAILED
        ),
        turns=turns,
        reward=reward_of(need(record, "reward", object, where), where),
        success=optional(record, "success", bool, where, None),
        stop=StopReason(stop),
        source=need(record, "source", str, where),
        sample=_count(record, "sample", where),
        seed=_count(record, "seed", where),
        score=score,
        tokenizer=tokenizer,
        detail=optional(record, "detail", str, where, ""),
        tools=tuple(tools),
    )


def turn_from_record(turn: Any, where: str) -> Turn:
    """The turn of a JSON object. Raises `InputError` naming `where` and the field."""
    if not isinstance(turn, dict):
        raise InputError("expected an object with action and observation", where=where, mend="correct it")
    known(turn, "turn", where)
    ids = optional(turn, "action_ids", list, where, None)
    if ids is not None and not all(type(token) is int and 0 <= token <= _MOST_TOKEN for token in ids):
        raise bad(where, "action_ids", "expected a list of token ids (whole numbers from 0)")
    heard = enumerate(optional(turn, "answers", list, where, []))
    answers = tuple(message_from_record(each, f"{where}, answer {number}") for number, each in heard)
    observation = need(turn, "observation", str, where)
    if any(each.role not in ("tool", "user") for each in answers):
        raise bad(where, "answers", "only tools and the user answer the agent", "correct the roles")
    if answers and observation != "\n".join(each.content for each in answers):
        raise bad(where, "observation", "is not the texts of 'answers', joined by line breaks")
    return Turn(
        action=need(turn, "action", str, where),
        observation=observation,
        reward=reward_of(turn.get("reward", 0.0), where),
        action_ids=None if ids is None else tuple(ids),
        reasoning=optional(turn, "reasoning", str, where, ""),
        tool_calls=_calls_from_record(turn, where),
        answers=answers,
        loss=optional(turn, "loss", bool, where, True),
    )


def message_from_record(message: Any, where: str) -> Message:
    """The message of a JSON object. Raises `InputError` naming `where` and the field."""
    if not isinstance(message, dict):
        raise InputError("expected an object with role and content", where=where, mend="correct it")
    known(message, "message", where)
    role = need(message, "role", str, where)
    if role not in get_args(Role):
        raise bad(where, "role", f"unknown role {brief(role)}", f"use one of {', '.join(get_args(Role))}")
    texts = (optional(message, key, str, where, "") for key in ("reasoning", "tool_call_id", "name"))
    reasoning, call_id, name = texts
    calls = _calls_from_record(message, where)
    for key in ("reasoning", "tool_calls") if role != "assistant" else ():
        if message.get(key):
            raise bad(where, key, f"has no meaning in a message of role {role}", "give it to the agent")
    return Message(role, need(message, "content", str, where), reasoning, calls, call_id, name)  # type: ignore[arg-type]


def _calls_from_record(record: Mapping[str, Any], where: str) -> tuple[ToolCall, ...]:
    calls = []
    for number, call in enumerate(optional(record, "tool_calls", list, where, [])):
        place = f"{where}, call {number}"
        if not isinstance(call, dict):
            raise InputError("expected an object with name and arguments", where=place, mend="correct it")
        known(call, "call", place)
        arguments = optional(call, "arguments", str, place, "{}")
        if not is_object(arguments):
            raise bad(place, "arguments", "is not the JSON text of an object", "write the arguments by name")
        calls.append(
            ToolCall(need(call, "name", str, place), arguments, optional(call, "id", str, place, ""))
        )
    return tuple(calls)


def _prompt_from_record(
    messages: list[Any], where: str, *, may_be_empty: bool = False
) -> tuple[Message, ...]:
    """may_be_empty: the simulator failed before there was a prompt."""
    if may_be_empty and not messages:
        return ()
    made = [message_from_record(each, f"{where}, message {number}") for number, each in enumerate(messages)]
    check_prompt(made, where)
    return tuple(made)
