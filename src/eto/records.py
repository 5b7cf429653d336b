"""Trajectories and pairs as JSON objects: the project's own format, one object a line."""

from __future__ import annotations

from typing import Any, get_args

from eto.errors import InputError
from eto.types import FAILED, Message, Pair, PairKind, Role, StopReason, Task, Trajectory, Turn

_NUMBER = (int, float)


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
    """The pair of a JSON object. Raises `InputError` naming `where` and the field."""
    task = _task_from_record(record, where)
    sides = []
    for side in ("chosen", "rejected"):
        sides.append(_episode_from_record(task, need(record, side, dict, where), f"{where}, {side}"))
    chosen, rejected = sides
    kind = need(record, "kind", str, where)
    if kind not in get_args(PairKind):
        raise bad(where, "kind", f"unknown kind {kind!r}", f"use one of {', '.join(get_args(PairKind))}")
    shared = need(record, "shared_turns", int, where)
    if not 0 <= shared <= min(len(chosen.turns), len(rejected.turns)):
        raise bad(where, "shared_turns", f"{shared} is not a number of leading turns of both sides")
    return Pair(task, chosen, rejected, shared, kind)  # type: ignore[arg-type]


def need(record: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`record[key]`, which must be there and of type `kind`; booleans are not numbers."""
    if key not in record:
        raise bad(where, key, "the field is missing")
    return _checked(record[key], key, kind, where)


def reward_of(value: Any, where: str, key: str = "reward") -> float:
    """`value` as a reward: a number in [0, 1]. Raises `InputError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, _NUMBER) or not 0.0 <= value <= 1.0:
        raise bad(where, key, f"{value!r} is not a number in [0, 1]", "scale rewards to [0, 1]")
    return float(value)


def bad(where: str, key: str, problem: str, mend: str = "") -> InputError:
    """An `InputError` at a field of an item."""
    place = f"{where}, field '{key}'" if where else f"field '{key}'"
    return InputError(problem, where=place, mend=mend or "correct this field, or delete the item")


def _checked(value: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    # bool is a subclass of int, but true is no number here.
    if not isinstance(value, kinds) or (isinstance(value, bool) and not {bool, object} & set(kinds)):
        names = " or ".join(_JSON_NAMES.get(each, each.__name__) for each in kinds)
        found = "null" if value is None else _JSON_NAMES.get(type(value), type(value).__name__)
        raise bad(where, key, f"expected {names}, found {found}")
    return value


_JSON_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def _optional(record: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str, empty: Any) -> Any:
    value = record.get(key)
    return empty if value is None else _checked(value, key, kind, where)


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
    if not task.get("id"):
        raise bad(inner, "id", "the field is missing", "give every task a stable id")
    names = (need(task, key, str, inner) for key in ("id", "environment", "kind", "split"))
    return Task(*names, payload=_optional(task, "payload", dict, inner, {}))


def _episode_to_record(trajectory: Trajectory) -> dict[str, Any]:
    record: dict[str, Any] = {
        "source": trajectory.source,
        "sample": trajectory.sample,
        "seed": trajectory.seed,
        "reward": trajectory.reward,
        "success": trajectory.success,
        "stop": str(trajectory.stop),
        "messages": [{"role": each.role, "content": each.content} for each in trajectory.messages],
        "turns": [_turn_to_record(turn) for turn in trajectory.turns],
    }
    for key in ("score", "tokenizer"):
        if getattr(trajectory, key) is not None:
            record[key] = getattr(trajectory, key)
    if trajectory.detail:
        record["detail"] = trajectory.detail
    return record


def _turn_to_record(turn: Turn) -> dict[str, Any]:
    record: dict[str, Any] = {
        "action": turn.action,
        "observation": turn.observation,
        "reward": turn.reward,
    }
    if turn.action_ids is not None:
        record["action_ids"] = list(turn.action_ids)
    return record


def _episode_from_record(task: Task, record: dict[str, Any], where: str) -> Trajectory:
    stop = need(record, "stop", str, where)
    if stop not in tuple(StopReason):
        raise bad(where, "stop", f"unknown reason {stop!r}", f"use one of {', '.join(StopReason)}")
    turns = tuple(
        _turn_from_record(turn, f"{where}, turn {number}")
        for number, turn in enumerate(need(record, "turns", list, where))
    )
    if not turns and StopReason(stop) not in FAILED | {StopReason.OUT_OF_TOKENS}:
        raise bad(where, "turns", "no agent turn", "delete the trajectory: there is nothing to learn from")
    tokenizer = _optional(record, "tokenizer", str, where, None)
    if tokenizer is None and any(turn.action_ids is not None for turn in turns):
        raise bad(where, "tokenizer", "token ids without the tokenizer they belong to", "delete the ids")
    return Trajectory(
        task=task,
        messages=_messages_from_record(
            need(record, "messages", list, where), where, may_be_empty=StopReason(stop) in FAILED
        ),
        turns=turns,
        reward=reward_of(need(record, "reward", object, where), where),
        success=_optional(record, "success", bool, where, None),
        stop=StopReason(stop),
        source=need(record, "source", str, where),
        sample=_optional(record, "sample", int, where, 0),
        seed=_optional(record, "seed", int, where, 0),
        score=_optional(record, "score", _NUMBER, where, None),
        tokenizer=tokenizer,
        detail=_optional(record, "detail", str, where, ""),
    )


def _turn_from_record(turn: Any, where: str) -> Turn:
    if not isinstance(turn, dict):
        raise InputError("expected an object with action and observation", where=where, mend="correct it")
    ids = _optional(turn, "action_ids", list, where, None)
    if ids is not None and not all(type(token) is int and token >= 0 for token in ids):
        raise bad(where, "action_ids", "expected a list of token ids (whole numbers from 0)")
    return Turn(
        action=need(turn, "action", str, where),
        observation=need(turn, "observation", str, where),
        reward=reward_of(turn.get("reward", 0.0), where),
        action_ids=None if ids is None else tuple(ids),
    )


def _messages_from_record(
    messages: list[Any], where: str, *, may_be_empty: bool = False
) -> tuple[Message, ...]:
    """may_be_empty: the simulator failed before there was a prompt."""
    if may_be_empty and not messages:
        return ()
    made = []
    for number, message in enumerate(messages):
        place = f"{where}, message {number}"
        if not isinstance(message, dict):
            raise InputError("expected an object with role and content", where=place, mend="correct it")
        role = need(message, "role", str, place)
        if role not in get_args(Role):
            raise bad(place, "role", f"unknown role {role!r}", f"use one of {', '.join(get_args(Role))}")
        made.append(Message(role, need(message, "content", str, place)))  # type: ignore[arg-type]
    check_prompt(made, where)
    return tuple(made)


def check_prompt(messages: list[Message], where: str) -> None:
    """Raise `InputError` unless roles alternate user, assistant, …, user after an optional system."""
    rest = messages[1:] if messages and messages[0].role == "system" else messages
    for number, message in enumerate(rest, start=len(messages) - len(rest)):
        expected = "user" if (number - len(messages) + len(rest)) % 2 == 0 else "assistant"
        if message.role != expected:
            raise InputError(
                f"roles out of order: {message.role} where {expected} was expected",
                where=f"{where}, message {number}",
                mend="let user and assistant take turns, after at most one system message",
            )
    if not rest or rest[-1].role != "user":
        raise InputError(
            "the prompt does not end on a user message",
            where=where,
            mend="put the task, as the user's message, before the agent's first turn",
        )
