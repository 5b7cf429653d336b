"""Conversations of other trainers: each field takes effect, or is refused by name."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from eto.data.formats import read_sides, read_trajectories
from eto.errors import InputError
from eto.types import Message, ToolCall, Trajectory, Turn

CASES = Path(__file__).parents[3].parent / "shared/cases/reports"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the reported cases are not beside the project")

CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"query": "mug"}'}}
SEARCH = ToolCall("search", '{"query": "mug"}', "call_1")
SCHEMA = {"name": "search", "description": "finds", "parameters": {"type": "object", "properties": {}}}


def user(text: object = "Buy a mug.", **fields: object) -> dict[str, Any]:
    return {"role": "user", "content": text, **fields}


def agent(text: object = "look", **fields: object) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **fields}


def tool(text: object = "3 mugs", **fields: object) -> dict[str, Any]:
    return {"role": "tool", "content": text, **fields}


@pytest.fixture
def read(tmp_path: Path):
    """Reads items as a file's; warnings are collected in `read.told`."""

    def reading(*items: dict[str, Any], source: str | None = None) -> list[Trajectory]:
        path = tmp_path / "a.jsonl"
        path.write_text("\n".join(json.dumps(item) for item in items))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = read_trajectories(path, source=source)
        reading.reported = [str(each.message) for each in caught]
        return found

    return reading


@pytest.fixture
def one(read):
    def reading(*messages: dict[str, Any], **fields: object) -> Trajectory:
        [found] = read({"id": "t", "messages": list(messages), **fields})
        return found

    return reading


@pytest.fixture
def refused(read):
    def refusing(*messages: dict[str, Any], **fields: object) -> str:
        with pytest.raises(InputError) as caught:
            read({"id": "t", "messages": list(messages), **fields})
        assert caught.value.hint and "line 1" in caught.value.where
        return str(caught.value)

    return refusing


# Turns without loss


FLAGS = ["weight", "loss", "train", "training", "trainable", "train_on_turn", "learn", "loss_mask"]


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("off", [0, 0.0, False])
def test_a_reply_in_the_middle_carries_no_loss(one, flag: str, off: object) -> None:
    marks = {flag: off}, {flag: 1}, {flag: None}
    found = one(user(), agent("a"), user("b"), agent("c", **marks[0]), user("d"), agent("e", **marks[1]))
    assert [turn.loss for turn in found.turns] == [True, False, True]
    assert one(user(), agent("a", **marks[2])).turns[0].loss


def test_a_head_without_loss_belongs_to_the_prompt(one) -> None:
    found = one(user(), agent("I will.", weight=0), user("Go."), agent("go"), user("gone", weight=0))
    assert [message.content for message in found.messages] == ["Buy a mug.", "I will.", "Go."]
    assert found.turns == (Turn("go", "gone", 1.0),)


def test_an_ok_that_is_to_be_learnt_is_a_turn(one) -> None:
    assert one(user(), agent("OK", loss=True), user("b"), agent("c")).actions == ("OK", "c")
    assert one(user(), agent("OK"), user("b"), agent("c")).actions == ("c",)


def test_a_call_without_loss_at_the_head_stays_a_turn(one) -> None:
    found = one(user(), agent(None, tool_calls=[CALL], weight=0), tool(), agent("Bought."))
    assert [turn.loss for turn in found.turns] == [False, True]


@pytest.mark.parametrize("value", [0.5, -1, 2, "0", "false", "no", [], {"a": 1}, float("nan")])
@pytest.mark.parametrize("flag", ["weight", "loss", "train"])
def test_a_half_loss_is_refused(refused, flag: str, value: object) -> None:
    if value != []:
        assert f"'{flag}'" in refused(user(), agent(), user("b"), agent("c", **{flag: value}))


@pytest.mark.parametrize("flag", FLAGS)
def test_a_loss_on_what_others_say_is_refused(refused, one, flag: str) -> None:
    assert f"'{flag}'" in refused(user(**{flag: True}), agent())
    assert one(user(**{flag: False}), agent()).turns


def test_marks_that_disagree_are_refused(refused) -> None:
    assert "disagree" in refused(user(), agent(loss=True, weight=0))


@pytest.mark.parametrize("flag", FLAGS)
def test_a_whole_item_without_loss_is_refused(refused, one, flag: str) -> None:
    assert f"'{flag}'" in refused(user(), agent(), **{flag: 0})
    assert one(user(), agent(), **{flag: 1}).turns[0].loss


def test_an_item_without_a_turn_to_learn_is_refused(refused) -> None:
    assert "no agent turn that carries loss" in refused(user(), agent(weight=0))
    assert "no agent turn that carries loss" in refused(user(), agent(None, tool_calls=[CALL], loss=False))


def test_a_loss_inside_the_example_is_refused(refused) -> None:
    fields = {"icl_messages": 2}
    assert "asks for a loss" in refused(user(), agent(train=True), user(), agent(), **fields)


@pytest.mark.parametrize(
    "field",
    ["mask", "masked", "train_detail", "training_detail", "loss_scale", "step_loss_mask", "refusal", "audio"],
)
def test_fields_of_a_message_that_are_not_read_are_refused(refused, field: str) -> None:
    assert f"'{field}'" in refused(user(), agent(**{field: [1]}))


# Calls, answers, thoughts, parts


def test_calls_answers_and_thoughts(one) -> None:
    found = one(
        {"role": "developer", "content": "Shop."},
        user(),
        agent(None, tool_calls=[CALL, {"function": {"name": "look", "arguments": {"at": "é"}}}]),
        tool("3 mugs", tool_call_id="call_1", name="search"),
        tool("a shop"),
        user("Hurry."),
        agent("Bought.", reasoning_content="The first one."),
        tools=[{"type": "function", "function": SCHEMA}],
    )
    assert found.messages[0] == Message("system", "Shop.")
    assert found.tools == ({"type": "function", "function": SCHEMA},)
    first, second = found.turns
    assert (first.action, first.tool_calls) == ("", (SEARCH, ToolCall("look", '{"at": "é"}')))
    assert first.observation == "3 mugs\na shop\nHurry."
    answer = Message("tool", "3 mugs", tool_call_id="call_1", name="search")
    assert first.answers == (answer, Message("tool", "a shop"), Message("user", "Hurry."))
    assert second == Turn("Bought.", "", 1.0, reasoning="The first one.")


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_by_any_name(one, refused, key: str) -> None:
    assert one(user(), agent(**{key: "Hm."})).turns[0].reasoning == "Hm."
    assert f"'{key}'" in refused(user(**{key: "Hm."}), agent())
    assert f"'{key}'" in refused(user(), agent(**{key: 5}))


def test_the_old_way_of_calling(one, refused) -> None:
    messages = [
        user(),
        agent("", function_call={"name": "search", "arguments": '{"query": "mug"}'}),
        {"role": "function", "name": "search", "content": "3"},
        agent("Bought."),
    ]
    found = one(*messages, functions=[SCHEMA])
    assert found.turns[0].tool_calls == (ToolCall("search", '{"query": "mug"}'),)
    assert found.turns[0].answers == (Message("tool", "3", name="search"),)
    assert found.tools == ({"type": "function", "function": SCHEMA},)
    assert "'functions'" in refused(*messages, functions=[SCHEMA], tools=[SCHEMA])


def test_sharegpt_calls(read) -> None:
    conversation = [
        {"from": "human", "value": "Buy."},
        {"from": "gpt", "value": "I search."},
        {"from": "function_call", "value": '{"name": "search", "arguments": {"query": "mug"}}'},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "Bought."},
    ]
    [found] = read({"id": 1, "conversations": conversation, "tools": json.dumps([SCHEMA]), "system": "Shop."})
    assert found.messages == (Message("system", "Shop."), Message("user", "Buy."))
    assert found.turns[0].said == ("I search.", "", (ToolCall("search", '{"query": "mug"}'),))
    assert found.turns[0].answers == (Message("tool", "3"),)
    assert found.tools == ({"type": "function", "function": SCHEMA},)


def test_anthropic_blocks(one) -> None:
    found = one(
        user([{"type": "text", "text": "Buy."}]),
        agent(
            [
                {"type": "thinking", "thinking": "Hm."},
                {"type": "text", "text": "I search."},
                {"type": "tool_use", "id": "call_1", "name": "search", "input": {"query": "mug"}},
            ]
        ),
        user(
            [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "3"}]},
                {"type": "text", "text": "Hurry."},
            ]
        ),
        agent("Bought."),
        system="Shop.",
        tools=[{"name": "search", "input_schema": {"type": "object"}}],
    )
    assert found.turns[0].said == ("I search.", "Hm.", (SEARCH,))
    assert found.turns[0].answers == (Message("tool", "3", tool_call_id="call_1"), Message("user", "Hurry."))
    function = {"name": "search", "parameters": {"type": "object"}}
    assert found.tools == ({"type": "function", "function": function},)


def test_parts_of_text_are_joined(one) -> None:
    parts = [{"type": "text", "text": "search"}, {"type": "text", "text": "[red mug]"}]
    assert one(user(), agent(parts)).actions == ("search[red mug]",)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([user(), agent("")], "neither text nor call"),
        ([user(), agent(" \n")], "neither text nor call"),
        ([user(), agent(None)], "neither text nor call"),
        ([user(), agent("", tool_calls=[])], "neither text nor call"),
        ([user(), agent(None, reasoning="Hm.")], "neither text nor call"),
        ([user(None), agent()], "'content'"),
        ([user(), {"role": "assistant"}], "neither text nor call"),
        ([user(), agent(), agent("b")], "out of order"),
        ([user(), user("b"), agent()], "out of order"),
        ([user(), agent(), {"role": "system", "content": "b"}, agent()], "out of order"),
        ([tool(), agent()], "out of order"),
        ([user(), agent(tool_calls=[CALL]), tool(tool_call_id="call_2"), agent()], "'call_2'"),
        ([user(), agent(tool_calls="search")], "'tool_calls'"),
        ([user(), agent(tool_calls=False)], "'tool_calls'"),
        ([user(), agent(tool_calls=[{**CALL, "name": "other"}])], "'name'"),
        ([user(), agent(tool_calls=[{**CALL, "strict": 0}])], "'strict'"),
        ([user(), agent(function_call=0)], "function_call"),
        ([user(), agent(tool_calls=[{"function": {"arguments": "{}"}}])], "'name'"),
        ([user(), agent(tool_calls=[{"function": {"name": "f", "arguments": "{"}}])], "JSON"),
        ([user(), agent(tool_calls=[{"function": {"name": "f", "arguments": "[1]"}}])], "'arguments'"),
        ([user(), agent(tool_calls=[{"function": {"name": "f", "arguments": 5}}])], "'arguments'"),
        ([user(), agent(tool_calls=[{"type": "custom", "custom": {"name": "f"}}])], "custom"),
        ([user(), agent(tool_calls=[CALL], function_call={"name": "f"})], "'function_call'"),
        ([user(tool_calls=[CALL]), agent()], "'tool_calls'"),
        ([user(), agent(tool_call_id="x")], "'tool_call_id'"),
        ([user(name="Bob"), agent()], "'name'"),
        ([user(), agent([{"type": "image_url", "image_url": {"url": "x"}}])], "image_url"),
        ([user([{"type": "input_audio"}]), agent()], "input_audio"),
        ([user(), agent([{"type": "tool_use", "name": "f"}, {"type": "text", "text": "b"}])], "after a call"),
        ([user(), agent(reasoning="a", thinking="b")], "thoughts"),
        ([user(), agent([{"type": "text", "text": "a", "weight": 0}])], "'weight'"),
        ([user(), agent([{"type": "text", "text": "a", "train": True}])], "'train'"),
        ([user([{"text": "a", "image_url": "b"}]), agent()], "'image_url'"),
        ([user(5), agent()], "'content'"),
        (["hello", agent()], "expected an object"),
        ([user(), agent(value="look")], "'value'"),
        ([user(), {**agent(), "from": "gpt"}], "is given together with"),
        ([user(), agent(contnet="x")], "'contnet'"),
        ([user(), agent(toolCalls=[CALL])], "tool_calls"),
        ([user(), agent(emotion="sad")], "'emotion'"),
    ],
)
def test_messages_that_are_refused(refused, messages: list[Any], words: str) -> None:
    assert words in refused(*messages)


# Fields of items


@pytest.mark.parametrize(
    "fields",
    [
        {"images": ["a.png"]},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"label": True},
        {"margin": 0.5},
        {"history": [["a", "b"]]},
        {"input_ids": [1]},
        {"loss_mask": [0, 1]},
        {"mask": [1]},
        {"documents": [{"text": "a"}]},
        {"rejected_response": "no"},
        {"rejected_messages": [user(), agent()]},
        {"chosen": "a"},
        {"prompt": "another"},
        {"resolved": False},
        {"score": 0.1},
        {"is_success": True},
        {"success": False},
        {"success": "true"},
        {"success": 1},
        {"rewrd": 1.0},
        {"mesages": []},
        {"sytem": "Shop."},
        {"systemPrompt": "Shop."},
        {"Reward": 1.0},
        {"source": 5},
        {"tools": "{}"},
        {"tools": [5]},
        {"tools": [{"type": "web_search"}]},
        {"icl_messages": -1},
        {"icl_messages": True},
        {"conversations": []},
        {"reward": "1.0"},
        {"reward": "true"},
        {"reward": 2},
        {"reward": -0.1},
        {"reward": [1]},
        {"reward": float("nan")},
        {"reward": float("inf")},
        {"reward": 0.5, "meta": {"reward": 1.0}},
    ],
)
def test_fields_of_an_item_that_are_refused(refused, fields: dict[str, Any]) -> None:
    message = refused(user(), agent(), **fields)
    name = next(iter(fields))
    assert name in message or name == "conversations"


def test_other_fields_are_ignored_and_counted(read) -> None:
    item = {"id": 1, "messages": [user(timestamp=5), agent(id="x")], "idx": 3, "model": "m", "images": []}
    item |= {
        "reward": 1,
        "score": 5,
        "item_id": "other",
        "prompt": "Buy a mug.",
        "meta": {"loss": 5},
        "label": None,
        "conversation_id": 9,
        "task": "boil",
    }
    assert len(read(item, item)) == 2
    [reported] = read.reported
    assert "idx (2)" in reported and "timestamp (2)" in reported and "conversation_id (2)" in reported
    assert "score (2)" in reported and "item_id (2)" in reported
    assert "images" not in reported and "prompt" not in reported


def test_rewards(one, read) -> None:
    assert one(user(), agent()).reward == 1.0
    assert one(user(), agent(), reward=None).reward == 1.0
    assert one(user(), agent(), reward=True).reward == 1.0
    assert one(user(), agent(), reward=False, success=None).reward == 0.0
    assert one(user(), agent(), reward=0.25, score=3, resolved=False).reward == 0.25
    assert one(user(), agent(), success=True).success is True
    assert one(user(), agent(), reward=None, meta={"reward": 0.5}).reward == 0.5
    with pytest.raises(InputError, match="'reward'"):
        read({"id": 1, "messages": [user(), agent()], "reward": None, "source": "me"})


@pytest.mark.parametrize(("given", "name"), [(17, "17"), (17.0, "17"), ("17", "17"), (0, "0")])
def test_ids(read, given: object, name: str) -> None:
    [found] = read({"id": given, "messages": [user(), agent()]})
    assert found.task.id == name


@pytest.mark.parametrize("given", [True, 1.5, "", "  ", [1], {}, float("nan")])
def test_ids_that_are_none(read, given: object) -> None:
    with pytest.raises(InputError, match="'id'"):
        read({"id": given, "messages": [user(), agent()]})


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"text": "a"}, "plain-text"),
        ({"prompt": "a", "completion": "b"}, "prompt-completion"),
        ({"prompt": "a", "completion": "b", "label": True}, "KTO"),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "eto dpo"),
        ({"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}, "eto dpo"),
        ({"task": {"id": "t"}, "kind": "trajectory", "chosen": {}, "rejected": {}}, "eto dpo"),
        ({"input_ids": [1]}, "tokenised"),
        ({"mesages": []}, "messages"),
        ({"foo": 1}, "foo"),
    ],
)
def test_other_forms_are_refused_by_name(read, item: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read({"id": 1, **item})


def test_trajectories_of_one_number_are_numbered_anew(read, tmp_path: Path) -> None:
    own = {
        "task": {"id": "t", "environment": "e", "kind": "k", "split": "train"},
        "source": "sft",
        "sample": 3,
        "reward": 0.0,
        "stop": "terminated",
        "messages": [user()],
        "turns": [{"action": "look", "observation": ""}],
    }
    foreign = {"id": "t", "source": "sft", "reward": 0, "messages": [user(), agent()]}
    assert [each.sample for each in read(own, own, foreign, {**own, "sample": 0}, foreign)] == [3, 0, 1, 2, 4]
    assert "numbered again: 2" in read.reported[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"succes": True}, "'succes'"),
        ({"tools": [5]}, "'tools'"),
        ({"score": float("inf")}, "'score'"),
        ({"score": 10**400}, "'score'"),
        ({"sample": 2**63}, "'sample'"),
        ({"sample": -1}, "'sample'"),
        ({"seed": 1.5}, "'seed'"),
        ({"success": "true"}, "'success'"),
        ({"task": {"id": 17, "environment": "e", "kind": "k", "split": "train"}}, "'id'"),
        ({"task": {"id": "t", "environment": "e", "kind": "k", "split": "train", "paylod": {}}}, "'paylod'"),
        ({"turns": [{"action": "a", "observation": "", "weight": 0}]}, "'weight'"),
        ({"turns": [{"action": "a", "observation": "", "loss": 0}]}, "'loss'"),
        ({"turns": [{"action": "a", "observation": "", "tool_calls": [{"name": 5}]}]}, "'name'"),
        ({"turns": [{"action": "a", "observation": "", "action_ids": [2**40]}], "tokenizer": "x"}, "ids"),
        ({"turn": []}, "'turn'"),
        ({"turns": [{"action": "a", "observation": "", "answers": [agent()]}]}, "'answers'"),
        ({"turns": [{"action": "a", "observation": "4", "answers": [tool("3")]}]}, "'observation'"),
        ({"messages": [{**user(), "tool_calls": [{"name": "f"}]}]}, "'tool_calls'"),
    ],
)
def test_own_records_are_read_strictly(read, change: dict[str, Any], words: str) -> None:
    own = {
        "task": {"id": "t", "environment": "e", "kind": "k", "split": "train"},
        "source": "sft",
        "reward": 0.0,
        "stop": "terminated",
        "messages": [user()],
        "turns": [{"action": "look", "observation": ""}],
        "meta": {"anything": 1},
    }
    assert read(own)
    with pytest.raises(InputError, match=words):
        read({**own, **change})


# The reported cases


@needs_cases
def test_no_loss_falls_on_the_bad_reply() -> None:
    found = read_sides(CASES / "case01" / "expert.jsonl")
    assert len(found) == 5
    for each in found:
        assert all(turn.loss == (turn.action != "drink water") for turn in each.turns)
        assert "heat water" in each.actions


@needs_cases
@pytest.mark.parametrize(
    "name", ["call_beside_text", "call_beside_text_then_user", "empty_content", "null_content", "parts"]
)
def test_reported_calls_are_kept(name: str) -> None:
    [found] = read_trajectories(CASES / "case19" / f"{name}.jsonl")
    if name == "parts":
        assert found.actions == ("search[red mug]",)
    else:
        assert found.turns[0].tool_calls == (ToolCall("search", '{"query": "red mug"}', "call_1"),)
    if name == "call_beside_text_then_user":
        assert found.turns[1].reasoning == "The first one is red."


@needs_cases
def test_half_of_a_pair_is_replaced_and_told() -> None:
    with pytest.warns(UserWarning, match="U\\+FFFD: 1"):
        [found] = read_trajectories(CASES / "case05" / "expert.jsonl")
    assert "well done \N{REPLACEMENT CHARACTER} (the" in found.turns[0].observation
