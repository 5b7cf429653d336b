"""Preference items of other trainers are read for what they are, or refused by name."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eto.data.formats import pair_to_record, read_pairs, read_sides, write_pairs
from eto.errors import InputError
from eto.types import Message, Pair, StopReason, Task, ToolCall, Trajectory, Turn

CASES = Path(__file__).parents[3].parent / "shared/cases/reports"

U, A, B = Message("user", "Find the key."), "open drawer", "wait"
SYSTEM = Message("system", "Be brief.")


def user(text: str = U.content) -> dict[str, Any]:
    return {"role": "user", "content": text}


def agent(text: str, **fields: object) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **fields}


def human(text: str = U.content) -> dict[str, Any]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, Any]:
    return {"from": "gpt", "value": text}


@pytest.fixture
def read(tmp_path: Path):
    def reading(*items: dict[str, Any]) -> list[Pair]:
        path = tmp_path / "p.jsonl"
        path.write_text("\n".join(json.dumps(item) for item in items))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return read_pairs(path)
            finally:
                reading.told = "\n".join(str(each.message) for each in caught)

    return reading


ONE_REPLY = {
    "TRL, messages": {"prompt": [user()], "chosen": [agent(A)], "rejected": [agent(B)]},
    "TRL, texts": {"prompt": U.content, "chosen": A, "rejected": B},
    "TRL, implicit": {"chosen": [user(), agent(A)], "rejected": [user(), agent(B)]},
    "UltraFeedback": {
        "prompt": U.content,
        "prompt_id": "x",
        "messages": [user(), agent(A)],
        "chosen": [user(), agent(A)],
        "rejected": [user(), agent(B)],
        "score_chosen": 8.0,
        "score_rejected": 2.5,
    },
    "LLaMA-Factory ranking": {"conversations": [human()], "chosen": gpt(A), "rejected": gpt(B)},
    "LLaMA-Factory alpaca": {"instruction": "Find the", "input": "key.", "chosen": A, "rejected": B},
    "LLaMA-Factory alpaca, older": {"instruction": U.content, "input": "", "output": [A, B]},
    "Axolotl chat_template": {"messages": [user()], "chosen": agent(A), "rejected": agent(B)},
    "Axolotl argilla": {"instruction": U.content, "chosen_response": A, "rejected_response": B},
    "Axolotl intel": {"question": U.content, "chosen": A, "rejected": B},
    "ms-swift, response": {"messages": [user(), agent(A)], "rejected_response": B},
    "ms-swift, messages": {"messages": [user(), agent(A)], "rejected_messages": [user(), agent(B)]},
    "OpenAI": {
        "input": {"messages": [user()], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [agent(A)],
        "non_preferred_output": [agent(B)],
    },
}


@pytest.mark.parametrize("name", ONE_REPLY)
def test_one_reply(read, name: str) -> None:
    item = ONE_REPLY[name]
    [pair] = read({"id": 7, **item})
    prompt = (U,) if name != "LLaMA-Factory alpaca" else (Message("user", "Find the\nkey."),)
    assert pair.chosen.messages == pair.rejected.messages == prompt
    assert (pair.chosen.turns, pair.rejected.turns) == ((Turn(A, "", 1.0),), (Turn(B, "", 0.0),))
    assert (pair.task.id, pair.chosen.reward, pair.rejected.reward, pair.shared_turns) == ("7", 1.0, 0.0, 0)


@pytest.mark.parametrize("name", ONE_REPLY)
def test_the_system_text_opens_the_prompt(read, name: str) -> None:
    [pair] = read({**ONE_REPLY[name], "system": SYSTEM.content})
    assert pair.chosen.messages[0] == SYSTEM and pair.task.id == "pair-0"
    assert pair.rejected.messages == pair.chosen.messages


@pytest.mark.parametrize("name", ONE_REPLY)
def test_equal_sides_are_no_pair_in_any_form(read, name: str) -> None:
    same = json.loads(json.dumps(ONE_REPLY[name]).replace(json.dumps(B), json.dumps(A)))
    with pytest.raises(InputError, match="sides are equal: 1"):
        read(same)
    assert len(read(same, ONE_REPLY[name])) == 1 and "sides are equal: 1" in read.told


def test_several_turns(read) -> None:
    head, late = [user(), agent("look")], [user("A drawer."), agent(A)]
    [pair] = read({"chosen": [*head, *late], "rejected": [*head, user("A drawer."), agent(B), user("Hm.")]})
    assert [message.content for message in pair.chosen.messages] == [U.content, "look", "A drawer."]
    assert pair.rejected.turns == (Turn(B, "Hm.", 0.0),)
    # What the environment says differs: both sides begin with the last action that they share.
    [pair] = read(
        {"chosen": [*head, user("A drawer."), agent(A)], "rejected": [*head, user("Dark."), agent(B)]}
    )
    assert pair.chosen.actions == ("look", A) and pair.rejected.actions == ("look", B)
    assert pair.chosen.messages == (U,) and pair.shared_turns == 0


def test_history_is_part_of_the_prompt(read) -> None:
    [pair] = read({"instruction": "b", "history": [["a", "ok"]], "chosen": A, "rejected": B})
    assert [message.content for message in pair.chosen.messages] == ["a", "ok", "b"]


def test_calls_in_pairs(read) -> None:
    call = {"id": "c", "function": {"name": "search", "arguments": {"query": "mug"}}}
    answer = {"role": "tool", "content": "3", "tool_call_id": "c"}
    [pair] = read(
        {
            "prompt": [user(), agent("", tool_calls=[call]), answer],
            "chosen": [agent("Bought.")],
            "rejected": [agent("", tool_calls=[call]), answer, agent("Bought.", weight=0)],
            "tools": [{"name": "search"}],
        }
    )
    assert pair.chosen.messages[1].tool_calls == (ToolCall("search", '{"query": "mug"}', "c"),)
    assert pair.chosen.messages[2] == Message("tool", "3", tool_call_id="c")
    assert [turn.loss for turn in pair.rejected.turns] == [True, False]
    assert pair.chosen.tools == pair.rejected.tools == ({"type": "function", "function": {"name": "search"}},)


def test_sides_differ_by_their_calls(read) -> None:
    def side(query: str) -> list[dict[str, Any]]:
        return [agent("I search.", tool_calls=[{"name": "search", "arguments": {"query": query}}])]

    [pair] = read({"prompt": [user()], "chosen": side("mug"), "rejected": side("cup")})
    assert pair.shared_turns == 0


def test_what_is_told(read) -> None:
    read(ONE_REPLY["TRL, texts"])
    assert "plain texts" in read.told
    read(ONE_REPLY["OpenAI"], {**TRL, "score_chosen": 1, "idx": 5})
    assert all(f"{name} (1)" in read.told for name in ("parallel_tool_calls", "score_chosen", "idx"))


TRL = ONE_REPLY["TRL, messages"]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({**TRL, "score_chosen": 1, "score_rejected": 2}, "lower score"),
        ({**TRL, "chosen_score": 1, "rejected_score": 2}, "lower score"),
        ({**TRL, "score_chosen": "9", "score_rejected": 2}, "'score_chosen'"),
        ({**TRL, "margin": 1.0}, "'margin'"),
        ({**TRL, "label": True}, "'label'"),
        ({**TRL, "images": ["x"]}, "'images'"),
        ({**TRL, "chat_template_kwargs": {"a": 1}}, "'chat_template_kwargs'"),
        ({**TRL, "ref_chosen_logps": -1.0}, "'ref_chosen_logps'"),
        ({**TRL, "chosen_prompt": "x"}, "'chosen_prompt'"),
        ({**TRL, "weight": 0}, "'weight'"),
        ({**TRL, "weight": 0.5}, "'weight'"),
        ({**TRL, "id": True}, "'id'"),
        ({**TRL, "rejected_response": "x"}, "'rejected_response'"),
        ({**TRL, "chosne": 1}, "'chosne'"),
        ({**TRL, "system": "a", "system_prompt": "b"}, "'system_prompt'"),
        (
            {"chosen": [user("a"), agent(A)], "rejected": [user("b"), agent(B)]},
            "prompts of the two sides differ",
        ),
        ({"chosen": A, "rejected": B}, "no `prompt`"),
        ({"prompt": [user()], "chosen": [agent(A)], "rejected": [user(), agent(B)]}, "one side begins"),
        ({**ONE_REPLY["UltraFeedback"], "prompt": "other"}, "'prompt'"),
        ({**ONE_REPLY["UltraFeedback"], "messages": [user(), agent("other")]}, "'messages'"),
        ({"prompt": "\n\nHuman: hi\n\nAssistant:", "chosen": A, "rejected": B}, "markup"),
        ({"prompt": "hi", "chosen": "<|im_start|>assistant\na", "rejected": B}, "markup"),
        ({"prompt": [user()], "question": "q", "chosen": A, "rejected": B}, "'question'"),
        ({"prompt": [user()], "chosen": "", "rejected": B}, "neither text nor call"),
        ({"prompt": [user()], "chosen": [agent(A, weight=0)], "rejected": B}, "carries loss"),
        ({"prompt": [user(), agent("a", train=True), user()], "chosen": A, "rejected": B}, "asks for a loss"),
        ({"messages": [user()], "rejected_response": B}, "does not end on the agent"),
        ({"conversations": [human()], "chosen": gpt(A)}, "'rejected'"),
        ({**ONE_REPLY["Axolotl chat_template"], "history": [["a", "b"]]}, "'history'"),
        ({**ONE_REPLY["Axolotl chat_template"], "input": "more"}, "'input'"),
        ({**ONE_REPLY["TRL, implicit"], "history": [["a", "b"]]}, "'history'"),
        ({**TRL, "history": [["a", "b"]]}, "'history'"),
        ({**TRL, "output": ["a", "b"]}, "'output'"),
        ({**ONE_REPLY["OpenAI"], "messages": [user()]}, "'messages'"),
        ({**ONE_REPLY["OpenAI"], "tools": [{"name": "f"}]}, "'tools'"),
        ({**ONE_REPLY["OpenAI"], "chosen": "a"}, "'chosen'"),
        ({**ONE_REPLY["OpenAI"], "input": {"messages": [user()], "model": "m"}}, "'model'"),
        ({**TRL, "score_chosen": 10**400, "score_rejected": 1}, "'score_chosen'"),
        ({"prompt": "a", "completion": "b", "label": False}, "KTO"),
        ({"prompt": "a", "completion": "b"}, "prompt-completion"),
        ({"prompt": "a", "response_0": "b", "response_1": "c"}, "rated answers"),
        ({"instruction": "a", "output": "b"}, "alpaca"),
        ({"text": "a"}, "plain-text"),
        ({"instruction": "a", "output": ["b"]}, "'output'"),
        ({"messages": [user(), agent(A)]}, "`rejected`"),
    ],
)
def test_what_is_refused(read, item: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(item)
    assert words in str(caught.value) and "line 1" in str(caught.value) and caught.value.hint


# Our own pairs


def side(*actions: str, reward: float, **changes: Any) -> Trajectory:
    turns = tuple(Turn(action, "seen") for action in actions)
    task = Task("t", "e", "k", "train")
    return replace(Trajectory(task, (U,), turns, reward, None, StopReason.TERMINATED, "sft"), **changes)


def pair(chosen: Trajectory | None = None, rejected: Trajectory | None = None, shared: int = 1) -> Pair:
    chosen = chosen or side("look", A, reward=1.0)
    return Pair(chosen.task, chosen, rejected or side("look", B, reward=0.0), shared)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (pair(side("look", A, reward=0.2), side("look", B, reward=0.8)), "lower reward"),
        (pair(rejected=side("look", B, reward=0.0, messages=(Message("user", "other"),))), "'messages'"),
        (pair(rejected=side("look", B, reward=0.0, tools=({"name": "f"},))), "'tools'"),
        (pair(rejected=side("look", B, reward=0.0, stop=StopReason.ENVIRONMENT_FAILED)), "'stop'"),
        (pair(shared=0), "'shared_turns'"),
        (pair(shared=2), "'shared_turns'"),
    ],
)
def test_own_pairs_that_are_refused(read, spoilt: Pair, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(pair_to_record(spoilt))


def test_own_pairs_know_one_task(read) -> None:
    record = pair_to_record(pair())
    record["rejected"]["task"] = record["task"]
    assert read(record) == [pair()]
    record["rejected"]["task"] = {**record["task"], "id": "u"}
    with pytest.raises(InputError, match="'task'"):
        read(record)
    with pytest.raises(InputError, match="'sharedturns'"):
        read({**pair_to_record(pair()), "sharedturns": 1})


def test_equal_rewards_are_a_label(read) -> None:
    assert read(pair_to_record(pair(side("look", A, reward=0.5), side("look", B, reward=0.5))))
    assert read({**TRL, "score_chosen": 3, "score_rejected": 3}) and "equal scores" in read.told


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported cases are not beside the project")
def test_reported_pairs_without_a_contrast() -> None:
    for name in ("identical", "beginning"):
        with pytest.raises(InputError, match="anything to prefer"):
            read_pairs(CASES / "case22" / f"{name}.jsonl")
    with pytest.warns(UserWarning) as caught:
        [kept] = read_pairs(CASES / "case22" / "mixed.jsonl")
    told = [str(each.message) for each in caught]
    assert kept.task.id == "c" and len(told) == 2 and all(text.endswith(": 1") for text in told)
    assert len(read_sides(CASES / "case22" / "mixed.jsonl")) == 6


# Written for others


def called(tools: bool = True) -> Pair:
    turn = Turn(
        "", "3", reasoning="Hm.", tool_calls=(ToolCall("f", '{"a": 1}', "c"),),
        answers=(Message("tool", "3", tool_call_id="c", name="f"),),
    )  # fmt: skip
    schemas = ({"type": "function", "function": {"name": "f"}},) if tools else ()
    sides = [
        side("x", reward=reward, turns=(turn, Turn(text, "")), tools=schemas)
        for text, reward in ((A, 1.0), (B, 0.0))
    ]
    return pair(*sides)


def test_trl_keeps_calls_and_thoughts(tmp_path: Path) -> None:
    write_pairs(tmp_path / "p.jsonl", [called()], form="trl")
    [back] = read_pairs(tmp_path / "p.jsonl")
    assert [turn.said for turn in back.chosen.turns] == [turn.said for turn in called().chosen.turns]
    assert back.chosen.turns[0].answers == called().chosen.turns[0].answers
    assert (back.chosen.tools, back.shared_turns) == (called().chosen.tools, 1)


def test_sharegpt_keeps_turns_without_loss(tmp_path: Path) -> None:
    dull = pair(side("look", A, reward=1.0, turns=(Turn("look", "seen", loss=False), Turn(A, ""))))
    write_pairs(tmp_path / "p.json", [dull], form="sharegpt")
    [back] = read_pairs(tmp_path / "p.json")
    assert [turn.loss for turn in back.chosen.turns] == [False, True]
    with pytest.raises(InputError, match="TRL"):
        write_pairs(tmp_path / "q.json", [dull], form="trl")
    for tools in (True, False):
        with pytest.raises(InputError, match="no place"):
            write_pairs(tmp_path / "q.json", [called(tools)], form="sharegpt")
    assert not (tmp_path / "q.json").exists()
