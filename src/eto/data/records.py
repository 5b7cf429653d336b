"""Trajectories and pairs as JSON objects: the project's own format, one object a line.

Which fields there are, and of which type, follows from the dataclasses of `eto.types`; what they
must say together is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eto.credit.contrast import shared_turns
from eto.data.checks import bad, check_prompt, is_finite, is_object, joined, reward_of
from eto.data.codec import read, to_data
from eto.data.texts import brief
from eto.types import FAILED, Message, Pair, StopReason, Task, ToolCall, Trajectory, Turn

_MOST = 2**63 - 1
"""The largest whole number that the store takes."""
_MOST_TOKEN = 2**31 - 1

_FIRST = ("task", "source", "sample", "seed", "reward", "success", "stop", "messages", "turns")


def trajectory_to_record(trajectory: Trajectory) -> dict[str, Any]:
    """The JSON object of a trajectory; fields at their empty value are left out, except for numbers."""
    made = to_data(trajectory)
    made["turns"] = [{"action": "", "observation": "", "reward": 0.0, **turn} for turn in made["turns"]]
    return {name: made.get(name, 0) for name in _FIRST} | made


def trajectory_from_record(record: dict[str, Any], where: str = "") -> Trajectory:
    """The trajectory of a JSON object. Raises `InputError` naming `where` and the field."""
    made = read(Trajectory, record, where)
    _check_task(made.task, where)
    _check_trajectory(made, where)
    return made


def pair_to_record(pair: Pair) -> dict[str, Any]:
    """The JSON object of a pair: the task once, then both sides."""
    sides = {side: trajectory_to_record(getattr(pair, side)) for side in ("chosen", "rejected")}
    task = to_data(pair.task)
    for side in sides.values():
        del side["task"]
    return {"task": task, "kind": pair.kind, "shared_turns": pair.shared_turns, **sides}


def pair_from_record(record: dict[str, Any], where: str = "") -> Pair:
    """The pair of a JSON object. Raises `InputError` naming `where` and the field.

    Both sides follow one prompt and offer one set of functions, neither failed, and the chosen
    one's reward is not the lower.
    """
    whole, task = dict(record), record.get("task")
    for side in ("chosen", "rejected"):
        episode = whole.get(side)
        if isinstance(episode, dict):
            if episode.get("task", task) != task:
                problem, place = "is not the task of the pair", joined(where, side)
                raise bad(place, "task", problem, "pair trajectories of one task")
            whole[side] = {**episode, "task": task}
    pair = read(Pair, whole, where)
    _check_task(pair.task, where)
    _check_sides(pair, where)
    return pair


def _check_sides(pair: Pair, where: str) -> None:
    chosen, rejected = pair.chosen, pair.rejected
    for side, episode in (("chosen", chosen), ("rejected", rejected)):
        place = joined(where, side)
        _check_trajectory(episode, place)
        if episode.failed:
            raise bad(place, "stop", "a failed episode says nothing about the agent", "delete the pair")
    for key in ("messages", "tools"):
        if getattr(chosen, key) != getattr(rejected, key):
            raise bad(where, key, "differ between the two sides", "pair trajectories that follow one prompt")
    if chosen.reward < rejected.reward:
        problem = f"the chosen side has the lower reward ({chosen.reward:g} < {rejected.reward:g})"
        raise bad(where, "reward", problem, "swap the sides, or delete the pair")
    if pair.shared_turns != (equal := shared_turns(chosen, rejected)):
        problem = f"{brief(pair.shared_turns)}, and {equal} leading turns are equal on both sides"
        raise bad(where, "shared_turns", problem, "correct the number")


def _check_task(task: Task, where: str) -> None:
    if not task.id:
        raise bad(joined(where, "task"), "id", "the id is empty", "give every task a stable id")


def _check_trajectory(trajectory: Trajectory, where: str) -> None:
    for number, turn in enumerate(trajectory.turns):
        _check_turn(turn, joined(where, f"turn {number}"))
    for number, message in enumerate(trajectory.messages):
        _check_message(message, joined(where, f"message {number}"))
    if trajectory.messages or not trajectory.failed:  # the simulator may fail before there is a prompt
        check_prompt(trajectory.messages, where)
    if not trajectory.turns and trajectory.stop not in FAILED | {StopReason.OUT_OF_TOKENS}:
        raise bad(where, "turns", "no agent turn", "delete the trajectory: there is nothing to learn from")
    if trajectory.tokenizer is None and any(turn.action_ids is not None for turn in trajectory.turns):
        raise bad(where, "tokenizer", "token ids without the tokenizer they belong to", "delete the ids")
    if trajectory.score is not None and not is_finite(trajectory.score):
        problem = f"{brief(trajectory.score)} is not a finite number"
        raise bad(where, "score", problem, "correct it, or leave it out")
    reward_of(trajectory.reward, where)
    for key in ("sample", "seed"):
        value = getattr(trajectory, key)
        if not 0 <= value <= _MOST:
            raise bad(where, key, f"{brief(value)} is not a whole number from 0 to 2^63 - 1")


def _check_turn(turn: Turn, where: str) -> None:
    reward_of(turn.reward, where)
    if turn.action_ids and not (min(turn.action_ids) >= 0 and max(turn.action_ids) <= _MOST_TOKEN):
        raise bad(where, "action_ids", "expected a list of token ids (whole numbers from 0)")
    if turn.log_probs is not None and len(turn.log_probs) != len(turn.action_ids or ()):
        raise bad(where, "log_probs", "expected one number for each of action_ids")
    if not 0 <= turn.discarded_tokens <= _MOST:
        problem = f"{brief(turn.discarded_tokens)} is not a whole number from 0 to 2^63 - 1"
        raise bad(where, "discarded_tokens", problem)
    if turn.tool_calls:
        _check_calls(turn.tool_calls, where)
    if not turn.answers:
        return
    for number, answer in enumerate(turn.answers):
        _check_message(answer, joined(where, f"answer {number}"))
    if any(answer.role not in ("tool", "user") for answer in turn.answers):
        raise bad(where, "answers", "only tools and the user answer the agent", "correct the roles")
    if turn.observation != "\n".join(answer.content for answer in turn.answers):
        raise bad(where, "observation", "is not the texts of 'answers', joined by line breaks")


def _check_message(message: Message, where: str) -> None:
    for key in ("reasoning", "tool_calls") if message.role != "assistant" else ():
        if getattr(message, key):
            problem = f"has no meaning in a message of role {message.role}"
            raise bad(where, key, problem, "give it to the agent")
    _check_calls(message.tool_calls, where)


def _check_calls(calls: Sequence[ToolCall], where: str) -> None:
    for number, call in enumerate(calls):
        if not is_object(call.arguments):
            problem, place = "is not the JSON text of an object", joined(where, f"call {number}")
            raise bad(place, "arguments", problem, "write the arguments by name")
