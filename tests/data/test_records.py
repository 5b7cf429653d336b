"""Our own records: where a fault is said to be, what nulls and notes mean, what is left out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from eto.data.records import pair_from_record, pair_to_record, trajectory_from_record, trajectory_to_record
from eto.errors import InputError
from eto.types import Message, Pair, StopReason, Task, ToolCall, Trajectory, Turn

ANSWER = Message("tool", "x")
PROMPT = (Message("user", "go"), Message("assistant", "", tool_calls=(ToolCall("f"),)), ANSWER)


def episode(action: str, reward: float) -> Trajectory:
    calls = (ToolCall("f", '{"a": 1}', "id-1"), ToolCall("g"))
    turns = (
        Turn("look", "a door"),
        Turn(action, "x", reward, tool_calls=calls, answers=(ANSWER,)),
    )
    return Trajectory(Task("e/1", "e", "k", "dev"), PROMPT, turns, reward, None, StopReason.TERMINATED, "sft")


RECORD = trajectory_to_record(episode("wait", 1.0))
PAIR = pair_to_record(Pair(episode("wait", 1.0).task, episode("wait", 1.0), episode("sleep", 0.0), 1))


def changed(record: dict[str, Any], place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    record = copy.deepcopy(record)
    *way, last = place
    holder: Any = record
    for key in way:
        holder = holder[key]
    holder[last] = value
    return record


@pytest.mark.parametrize(
    ("place", "value", "where", "problem"),
    [
        (("reward",), "high", "f, field 'reward'", "expected a number, found 'high'"),
        (("sample",), 1.0, "f, field 'sample'", "expected a whole number, found 1.0"),
        (("sample",), -1, "f, field 'sample'", "-1 is not a whole number"),
        (("success",), 1, "f, field 'success'", "expected true or false, found 1"),
        (("turns",), {}, "f, field 'turns'", "expected a list, found {}"),
        (("turns", 1), "wait", "f, turn 1", "expected an object, found 'wait'"),
        (("turns", 1, "action"), None, "f, turn 1, field 'action'", "the field is missing"),
        (("turns", 1, "thought"), "x", "f, turn 1, field 'thought'", "a turn has no such field"),
        (("turns", 1, "action_ids"), [1, 2.5], "f, turn 1, field 'action_ids'", "a whole number, found 2.5"),
        (("turns", 1, "log_probs"), [-0.5] * 9, "f, turn 1, field 'log_probs'", "one number for each"),
        (("turns", 1, "action_ids"), [1, 2**31], "f, turn 1, field 'action_ids'", "token ids"),
        (("turns", 1, "reward"), 1.5, "f, turn 1, field 'reward'", r"1.5 is not a number in \[0, 1\]"),
        (("turns", 1, "tool_calls", 1, "id"), 5, "f, turn 1, call 1, field 'id'", "expected text"),
        (("turns", 1, "tool_calls", 0, "arguments"), "[1]", "f, turn 1, call 0, field 'arguments'", "object"),
        (("turns", 1, "answers", 0, "role"), "cat", "f, turn 1, answer 0, field 'role'", "role 'cat'"),
        (("messages", 1, "tool_calls", 0, "nme"), "f", "f, message 1, call 0, field 'nme'", "a call has no"),
        (("messages", 0, "reasoning"), "hm", "f, message 0, field 'reasoning'", "no meaning"),
        (("task", "kind"), 5, "f, task, field 'kind'", "expected text, found 5"),
        (("task", "id"), "", "f, task, field 'id'", "the id is empty"),
        (("task", "payload"), [], "f, task, field 'payload'", r"expected an object, found \[\]"),
        (("stop",), "bored", "f, field 'stop'", "unknown stop 'bored'"),
    ],
)
def test_a_fault_has_its_place(place, value, where: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        trajectory_from_record(changed(RECORD, place, value), "f")
    assert caught.value.where == where and caught.value.hint


@pytest.mark.parametrize(
    ("place", "value", "where"),
    [
        (("chosen",), 5, "f, field 'chosen'"),
        (("chosen", "turns", 0, "observation"), 5, "f, chosen, turn 0, field 'observation'"),
        (("rejected", "task"), {"id": "other"}, "f, rejected, field 'task'"),
        (("rejected", "seed"), -1, "f, rejected, field 'seed'"),
        (("kind",), "whole", "f, field 'kind'"),
        (("task", "split"), 5, "f, task, field 'split'"),
        (("shared_turns",), True, "f, field 'shared_turns'"),
    ],
)
def test_a_fault_of_a_pair_has_its_place(place, value, where: str) -> None:
    with pytest.raises(InputError) as caught:
        pair_from_record(changed(PAIR, place, value), "f")
    assert caught.value.where == where and caught.value.hint


def test_nulls_are_fields_left_out_and_notes_are_skipped() -> None:
    record = changed(RECORD, ("meta",), {"mine": [None]})
    record = changed(record, ("turns", 0, "reasoning"), None)
    record = changed(record, ("turns", 0, "meta"), 5)
    record = changed(record, ("task", "payload"), {"kept": None, "meta": 1})
    del record["success"]
    found = trajectory_from_record(record)
    assert found.turns == episode("wait", 1.0).turns and found.success is None
    assert found.task.payload == {"kept": None, "meta": 1}


def test_what_is_at_its_default_is_left_out_but_for_numbers() -> None:
    assert list(RECORD) == [
        *("task", "source", "sample", "seed", "reward", "success", "stop", "messages", "turns")
    ]
    assert RECORD["turns"][0] == {"action": "look", "observation": "a door", "reward": 0.0}
    assert RECORD["task"] == {"id": "e/1", "environment": "e", "kind": "k", "split": "dev"}
    assert list(PAIR) == ["task", "kind", "shared_turns", "chosen", "rejected"]
    assert "task" not in PAIR["chosen"]
    assert pair_from_record(PAIR).rejected == episode("sleep", 0.0)
