"""Files of trajectories and pairs: nothing is lost, and a mistake names its place."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eto.data.formats import (
    pair_from_record,
    pair_to_record,
    read_pairs,
    read_trajectories,
    trajectory_from_record,
    trajectory_to_record,
    write_pairs,
    write_trajectories,
)
from eto.data.jsonfiles import json_line, read_items
from eto.errors import InputError, MissingRequirement
from eto.types import Message, Pair, StopReason, Task, ToolCall, Trajectory, Turn

TASK = Task("scienceworld/find-plant/17", "scienceworld", "find-plant", "train", {"variation": 17})
PROMPT = (Message("system", "Be brief."), Message("user", "Find a plant."))


def trajectory(*actions: str, reward: float = 1.0, ids: bool = True) -> Trajectory:
    turns = tuple(
        Turn(action, f"seen {n}", reward, (n, 7, 2) if ids else None) for n, action in enumerate(actions)
    )
    return Trajectory(
        TASK,
        PROMPT,
        turns,
        reward,
        True,
        StopReason.TERMINATED,
        "sft",
        sample=2,
        seed=9,
        score=100.0,
        tokenizer="f00" if ids else None,
    )


texts = st.text(max_size=20)
rewards = st.floats(0, 1)


values = st.none() | st.integers(-9, 9) | texts
calls = st.lists(
    st.builds(ToolCall, texts, st.dictionaries(texts, values, max_size=2).map(json.dumps), texts), max_size=2
).map(tuple)
answers = st.lists(st.builds(Message, st.just("tool"), texts, tool_call_id=texts, name=texts), max_size=2)


@st.composite
def prompts(draw) -> tuple[Message, ...]:
    reply = st.builds(Message, st.just("assistant"), texts, reasoning=texts, tool_calls=calls)
    answer = st.builds(Message, st.sampled_from(["user", "tool"]), texts)
    return (*PROMPT, draw(reply), draw(answer)) if draw(st.booleans()) else PROMPT


@st.composite
def trajectories(draw) -> Trajectory:
    ids = draw(st.booleans())
    tokens = st.lists(st.integers(0, 50_000), max_size=4).map(tuple)
    turn = st.builds(
        Turn,
        texts,
        texts,
        rewards,
        tokens if ids else st.none(),
        reasoning=texts,
        tool_calls=calls,
        answers=answers.map(tuple),
        loss=st.booleans(),
    )
    turns = [
        replace(each, observation="\n".join(answer.content for answer in each.answers))
        if each.answers
        else each
        for each in draw(st.lists(turn, min_size=1, max_size=4))
    ]
    return Trajectory(
        Task(draw(st.text(min_size=1, max_size=9)), draw(texts), draw(texts), "dev", {"n": draw(texts)}),
        draw(prompts()),
        tuple(turns),
        draw(rewards),
        draw(st.sampled_from([True, False, None])),
        draw(st.sampled_from(StopReason)),
        draw(texts),
        draw(st.integers(0, 9)),
        draw(st.integers(0, 2**31)),
        draw(st.none() | st.floats(-100, 100)),
        "tok" if ids else None,
        draw(texts),
        tuple(draw(st.lists(st.dictionaries(texts, values, max_size=2), max_size=2))),
    )


@settings(max_examples=60, deadline=None)
@given(trajectories())
def test_a_record_gives_back_its_trajectory(one: Trajectory) -> None:
    line = json_line(trajectory_to_record(one))
    assert "\n" not in line
    assert trajectory_from_record(json.loads(line)) == one


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "deep/er/a.jsonl"])
def test_files_give_back_their_trajectories(tmp_path: Path, name: str) -> None:
    # U+2028 splits lines for str.splitlines.
    made = [trajectory("look", "wait"), replace(trajectory("a\u2028b\r\n", "ä", ids=False), sample=3)]
    write_trajectories(tmp_path / name, made)
    assert read_trajectories(tmp_path / name) == made
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    assert [each.name for each in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_a_failed_episode_without_a_turn_is_a_record(tmp_path: Path) -> None:
    lost = Trajectory(TASK, PROMPT, (), 0.0, None, StopReason.ENGINE_FAILED, "sft", detail="out of memory")
    write_trajectories(tmp_path / "a.jsonl", [lost])
    assert read_trajectories(tmp_path / "a.jsonl") == [lost]


def spoilt(**changes: object) -> str:
    record = trajectory_to_record(trajectory("look", "wait"))
    for key, value in changes.items():
        if value is None:
            del record[key]
        else:
            record[key] = value
    return json.dumps(record)


GOOD = spoilt()
SHAREGPT = {
    "id": "sciworld/boil/3",
    "conversations": [
        {"from": "human", "value": "Instruction"},
        {"from": "gpt", "value": "OK"},
        {"from": "human", "value": "Boil water."},
        {"from": "gpt", "value": "Action: look"},
        {"from": "human", "value": "A kitchen."},
        {"from": "gpt", "value": "Action: wait"},
    ],
}


def sharegpt(**changes: object) -> str:
    return json.dumps({key: value for key, value in {**SHAREGPT, **changes}.items() if value is not None})


def said(*speakers: str) -> list[dict[str, str]]:
    return [{"from": speaker, "value": f"text {n}"} for n, speaker in enumerate(speakers)]


@pytest.mark.parametrize(
    ("second_line", "words"),
    [
        ('{"task": ', ["line 2", "JSON", "column"]),
        ("[1, 2]", ["line 2", "object"]),
        ('{"text": "a"}', ["line 2", "text", "conversations"]),
        (spoilt(reward=1.5), ["line 2", "'reward'", "1.5", "[0, 1]"]),
        (spoilt(reward=float("nan")), ["line 2", "'reward'", "nan"]),
        (spoilt(reward="high"), ["line 2", "'reward'", "high"]),
        (spoilt(reward=True), ["line 2", "'reward'"]),
        (spoilt(turns=[]), ["line 2", "'turns'", "no agent turn"]),
        (spoilt(turns=[{"observation": ""}]), ["line 2, turn 0", "'action'", "missing"]),
        (
            spoilt(turns=[{"action": "a", "observation": "", "action_ids": [1, -2]}]),
            ["line 2, turn 0", "action_ids"],
        ),
        (spoilt(tokenizer=None), ["line 2", "'tokenizer'"]),
        (spoilt(stop="bored"), ["line 2", "'stop'", "bored", "out_of_turns"]),
        (spoilt(task={"environment": "x"}), ["line 2, task", "'id'", "missing"]),
        (
            spoilt(messages=[{"role": "user", "content": "a"}] * 2),
            ["line 2, message 1", "out of order", "assistant was expected"],
        ),
        (
            spoilt(messages=[{"role": "system", "content": "a"}]),
            ["line 2", "does not end on a user message"],
        ),
        (sharegpt(id=None), ["line 2", "'id'", "missing"]),
        (sharegpt(reward=-0.1), ["line 2", "'reward'", "-0.1"]),
        (sharegpt(conversations=said("human", "gpt", "gpt")), ["line 2, conversations[2]", "out of order"]),
        (sharegpt(conversations=said("gpt", "human")), ["line 2, conversations[0]", "out of order"]),
        (sharegpt(conversations=said("human", "cat")), ["line 2, conversations[1]", "'from'", "cat", "gpt"]),
        (sharegpt(conversations=said("human")), ["line 2", "no agent turn"]),
        (sharegpt(conversations=SHAREGPT["conversations"][:3]), ["line 2", "no agent turn", "OK"]),
        (sharegpt(conversations=[]), ["line 2", "does not end on a user message"]),
        (sharegpt(conversations=[{"from": "human"}]), ["line 2, conversations[0]", "'value'", "missing"]),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, second_line: str, words: list[str]) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{GOOD}\n{second_line}\n")
    with pytest.raises(InputError) as caught:
        read_trajectories(path)
    assert all(word in str(caught.value) for word in [str(path), "hint:", *words]), str(caught.value)


def test_a_bad_item_of_a_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(f"[{sharegpt()},\n {sharegpt(id=None)}]")
    with pytest.raises(InputError, match=r"bad\.json, item \[1\], field 'id'"):
        read_trajectories(path)
    path.write_text(f"[{sharegpt()},\n {{]")
    with pytest.raises(InputError, match=r"bad\.json, line 2: not valid JSON"):
        read_trajectories(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"[]", "empty"),
        (b"\xff\xfe{", "not UTF-8"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-9], "cannot read"),
        (b"\x1f\x8bnot gzip", "cannot read"),
        (None, "cannot read"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        read_trajectories(path)
    assert caught.value.where == str(path)


def test_an_expert_item_of_the_eto_data(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f"[{sharegpt()}]")
    (one,) = read_trajectories(path)
    assert (one.task.id, one.task.environment, one.task.kind) == ("sciworld/boil/3", "imported", "boil")
    assert [each.role for each in one.messages] == ["user", "assistant", "user"]
    assert one.turns == (Turn("Action: look", "A kitchen.", 0.0), Turn("Action: wait", "", 1.0))
    assert (one.reward, one.success, one.stop, one.source) == (1.0, None, StopReason.TERMINATED, "expert")


def test_an_item_of_agent_traj_sets_the_acknowledgement_apart(tmp_path: Path) -> None:
    messages = [
        {"from": "human", "loss": None, "value": "Instruction"},
        {"from": "gpt", "loss": False, "value": "Ok. I'll follow your instructions."},
        {"from": "human", "loss": None, "value": "Task"},
        {"from": "gpt", "loss": True, "value": "OK"},
        {"from": "human", "loss": None, "value": "End"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"item_id": "alfworld_0", "conversations": messages}))
    (one,) = read_trajectories(path)
    assert (one.task.id, one.task.kind) == ("alfworld_0", "imported")
    assert one.turns == (Turn("OK", "End", 1.0),)


def test_openai_messages_with_a_system_message(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Task"},
        {"role": "assistant", "content": "look"},
        {"role": "user", "content": "A room."},
        {"role": "assistant", "content": "wait"},
    ]
    item = {"id": 5, "messages": messages, "reward": 0.25, "success": False}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(item) + "\n" + json.dumps(item))
    one, again = read_trajectories(path, source="sft")
    assert one.messages == (Message("system", "Be brief."), Message("user", "Task"))
    assert (one.task.id, one.reward, one.success, one.source) == ("5", 0.25, False, "sft")
    assert (one.sample, again.sample) == (0, 1)


def test_an_explored_item_needs_a_reward(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(sharegpt())
    with pytest.raises(InputError, match="field 'reward'"):
        read_trajectories(path, source="sft")


@pytest.mark.parametrize(
    ("meta", "stop", "reward"),
    [
        ({"reward": None, "terminate_reason": "x"}, StopReason.ENGINE_FAILED, 0.0),
        (
            {"reward": 0.5, "terminate_reason": "exceeding maximum input length"},
            StopReason.ENGINE_FAILED,
            0.0,
        ),
        ({"reward": 0.5, "terminate_reason": "max_steps"}, StopReason.OUT_OF_TURNS, 0.5),
        ({"reward": True, "terminate_reason": "success"}, StopReason.TERMINATED, 1.0),
    ],
)
def test_a_rollout_of_the_eto_code(tmp_path: Path, meta: dict, stop: StopReason, reward: float) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(sharegpt(meta={**meta, "success": True}, icl_messages=4))
    (one,) = read_trajectories(path, source="sft")
    assert (one.stop, one.reward, one.success) == (stop, reward, None)
    assert len(one.messages) == 5 and one.actions == ("Action: wait",)


def test_alfworld_games_meet_under_one_id(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rollout = {"reward": 1.0, "error": "data/train/pick_heavy-Mug-None/trial_7/game.tw-pddl"}
    path.write_text(
        sharegpt(id=1, game_file="train/pick_heavy-Mug-None/trial_7") + "\n" + sharegpt(id=0, meta=rollout)
    )
    one, other = read_trajectories(path)
    assert one.task == other.task
    assert (one.task.id, one.task.kind) == ("pick_heavy-Mug-None/trial_7", "pick_heavy")


def pair(*, ids: bool = True) -> Pair:
    rejected = trajectory("look", "sleep", "sleep", reward=0.0, ids=ids)
    return Pair(TASK, trajectory("look", "wait", ids=ids), rejected, 1)


def test_our_pairs_come_back_whole(tmp_path: Path) -> None:
    write_pairs(tmp_path / "p.jsonl.gz", [pair(), pair(ids=False)])
    assert read_pairs(tmp_path / "p.jsonl.gz") == [pair(), pair(ids=False)]


@pytest.mark.parametrize(
    ("form", "first"),
    [("sharegpt", {"from": "gpt", "value": "look"}), ("trl", {"role": "assistant", "content": "look"})],
)
@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_pairs_of_other_tools_keep_the_texts(tmp_path: Path, form: str, first: dict, name: str) -> None:
    write_pairs(tmp_path / name, [pair()], form=form)
    ((_, item),) = read_items(tmp_path / name)
    assert item["chosen"][0] == first and len(item["chosen"]) == 3 and len(item["rejected"]) == 5
    (back,) = read_pairs(tmp_path / name)
    assert (back.task.id, back.shared_turns) == (TASK.id, 1)
    assert back.chosen.messages == PROMPT and back.rejected.actions == ("look", "sleep", "sleep")
    assert (back.chosen.reward, back.rejected.reward) == (1.0, 0.0)


def test_a_pair_without_id_is_named_by_its_place(tmp_path: Path) -> None:
    chosen = [{"from": "gpt", "value": "better"}]
    item = {"prompt": said("human"), "chosen": chosen, "rejected": said("gpt", "human")}
    (tmp_path / "p.json").write_text(json.dumps([item, item]))
    assert [each.task.id for each in read_pairs(tmp_path / "p.json")] == ["pair-0", "pair-1"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": said("human", "gpt")}, ["'prompt'", "does not end on a user message"]),
        ({"rejected": said("gpt", "gpt")}, ["rejected[1]", "out of order"]),
        ({"rejected": []}, ["'rejected'", "no agent turn"]),
        ({"chosen": 5}, ["'chosen'", "expected a list"]),
    ],
)
def test_a_bad_pair_is_named(tmp_path: Path, changes: dict, words: list[str]) -> None:
    item = {"prompt": said("human"), "chosen": said("gpt"), "rejected": said("gpt"), **changes}
    (tmp_path / "p.jsonl").write_text(json.dumps(item))
    with pytest.raises(InputError) as caught:
        read_pairs(tmp_path / "p.jsonl")
    assert all(word in str(caught.value) for word in ["line 1", *words]), str(caught.value)


def test_a_pair_record_knows_how_many_turns_can_be_shared() -> None:
    with pytest.raises(InputError, match="shared_turns"):
        pair_from_record({**pair_to_record(pair()), "shared_turns": 3})


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trl"):
        write_pairs(tmp_path / "p.jsonl", [pair()], form="csv")  # type: ignore[arg-type]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write here") as caught:
        write_trajectories(tmp_path / "file" / "a.jsonl", [trajectory("look")])
    assert caught.value.where.endswith("a.jsonl")


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
def test_a_disk_without_room_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_trajectories(path, [trajectory("look")])
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from eto.errors import MissingRequirement; from eto.data.formats import *\n"
        "path = Path(sys.argv[1]); (one,) = read_trajectories(path)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    write_trajectories(path, [one] * 1000)\n"
        "except MissingRequirement as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, env={**os.environ}
    )
    assert "no room left" in done.stdout and "hint" in done.stdout, done.stderr
    assert read_trajectories(path) == [trajectory("look")]
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_a_generator_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "a.jsonl", [trajectory("look")])

    def broken():
        yield trajectory("wait")
        raise MissingRequirement("stop")

    with pytest.raises(MissingRequirement):
        write_trajectories(tmp_path / "a.jsonl", broken())
    assert read_trajectories(tmp_path / "a.jsonl") == [trajectory("look")]
    assert os.listdir(tmp_path) == ["a.jsonl"]
