"""What is exported comes back whole, as far as the form can carry it, through every kind of file."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eto.credit.contrast import shared_turns
from eto.data.exports import MAKERS, export
from eto.data.items import ItemReader
from eto.data.notes import Notes
from eto.errors import InputError
from eto.types import Message, Pair, StopReason, Task, ToolCall, Trajectory, Turn

NAMES = ("a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz", "a.parquet", "a.arrow", "set")
TOOLS = ({"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}},)
PLAIN = ("sharegpt", "agenttraj")
"""Forms without a place for calls and thoughts."""

texts = st.text(max_size=12)
words = st.text(min_size=1, max_size=12).filter(str.strip)
rewards = st.floats(0, 1)


@st.composite
def turns(draw, *, calls: bool, ids: bool) -> Turn:
    action, observation = draw(words | st.sampled_from(["OK", "ok."])), draw(texts)
    made = Turn(action, observation, draw(rewards), loss=draw(st.booleans()))
    if ids:
        made = replace(made, action_ids=tuple(draw(st.lists(st.integers(0, 9), max_size=3))))
    if not calls or draw(st.booleans()):
        return made
    arguments = json.dumps(
        draw(st.dictionaries(texts, texts | st.integers(0, 9), max_size=2)), ensure_ascii=False
    )
    call = ToolCall("find", arguments, "c1")
    heard = [Message("tool", draw(texts), tool_call_id="c1", name="find")]
    heard += [Message("user", draw(texts))] * draw(st.booleans())
    return replace(
        made,
        action=draw(texts),
        reasoning=draw(texts),
        tool_calls=(call,),
        answers=tuple(heard),
        observation="\n".join(each.content for each in heard),
    )


@st.composite
def prompts(draw) -> tuple[Message, ...]:
    made = [Message("user", draw(texts))]
    if draw(st.booleans()):
        made = [*made, Message("assistant", draw(words | st.just("OK"))), Message("user", draw(texts))]
    return (*([Message("system", draw(texts))] * draw(st.booleans())), *made)


@st.composite
def trajectories(draw, form: str) -> Trajectory:
    calls, ids = form not in PLAIN, form == "own" and draw(st.booleans())
    played = draw(st.lists(turns(calls=calls, ids=ids), min_size=1, max_size=3))
    if form == "trl":  # it has no mark for a turn without loss
        played = [replace(turn, loss=True) for turn in played]
    elif not any(turn.loss for turn in played):
        played[0] = replace(played[0], loss=True)
    return Trajectory(
        Task(draw(st.sampled_from(["shop/mug/1", "7", "a b"])), "shop", "mug", "dev", {"n": draw(texts)}),
        draw(prompts()),
        tuple(played),
        draw(rewards),
        draw(st.sampled_from([True, False, None])),
        draw(st.sampled_from([StopReason.TERMINATED, StopReason.OUT_OF_TURNS])),
        draw(st.sampled_from(["expert", "sft"])),
        draw(st.integers(0, 3)),
        draw(st.integers(0, 2**40)),
        draw(st.none() | st.floats(-100, 100)),
        "tok" if ids else None,
        tools=TOOLS if calls and draw(st.booleans()) else (),
    )


def carried(one: Trajectory, form: str, numbers: Counter) -> Trajectory:
    """What a conversation can say of a trajectory."""
    kind = {"shop/mug/1": "mug"}.get(one.task.id, "imported")
    prompt = one.messages
    if form == "agenttraj" and prompt[0].role == "system":
        agreed = Message("assistant", "OK. I'll follow your instructions and try my best to solve the task.")
        prompt = (Message("user", prompt[0].content), agreed, *prompt[1:])
    numbers[one.task.id, one.source] += 1
    return replace(
        one,
        task=Task(one.task.id, "imported", kind, "train"),
        messages=prompt,
        turns=unrewarded(one.turns, one.reward),
        stop=StopReason.TERMINATED,
        sample=numbers[one.task.id, one.source] - 1,
        seed=0,
        score=None,
        tokenizer=None,
    )


def unrewarded(given: tuple[Turn, ...], reward: float) -> tuple[Turn, ...]:
    made = [replace(turn, reward=0.0, action_ids=None) for turn in given]
    made[-1] = replace(made[-1], reward=reward, observation="", answers=())
    return tuple(made)


def numbered(given: list[Trajectory]) -> list[Trajectory]:
    """With samples that are not taken twice."""
    return [replace(one, sample=number) for number, one in enumerate(given)]


def there_and_back(given: list, kind: str, form: str, name: str) -> list:
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes()
        assert export(given, kind, form, Path(folder) / name, notes) == len(given) and not notes.lines()
        return list(ItemReader().stream(Path(folder) / name))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_trajectories_come_back(data: st.DataObject) -> None:
    form, name = data.draw(st.sampled_from(sorted(MAKERS["trajectory"]))), data.draw(st.sampled_from(NAMES))
    given_ = numbered(data.draw(st.lists(trajectories(form), min_size=1, max_size=3)))
    numbers: Counter = Counter()
    expected = given_ if form == "own" else [carried(one, form, numbers) for one in given_]
    assert there_and_back(given_, "trajectory", form, name) == expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pairs_come_back(data: st.DataObject) -> None:
    form, name = data.draw(st.sampled_from(sorted(MAKERS["pair"]))), data.draw(st.sampled_from(NAMES))
    better, worse = data.draw(trajectories(form if form != "own" else "trl")), data.draw(trajectories("trl"))
    if form in PLAIN:
        worse = data.draw(trajectories(form))
    worse = replace(
        worse, task=better.task, messages=better.messages, tools=better.tools, tokenizer=None, reward=0.0
    )
    pair = Pair(better.task, better, worse, shared_turns(better, worse))
    expected = pair
    if form != "own":
        task = carried(better, form, Counter()).task
        sides = [
            Trajectory(
                task,
                one.messages,
                unrewarded(one.turns, reward),
                reward,
                None,
                StopReason.TERMINATED,
                "imported",
                tools=one.tools,
            )
            for one, reward in ((better, 1.0), (worse, 0.0))
        ]
        expected = Pair(task, *sides, shared_turns(*sides))
    assert there_and_back([pair], "pair", form, name) == [expected]


def trajectory(**fields: object) -> Trajectory:
    task = Task("shop/mug/1", "shop", "mug", "train")
    turn = Turn("buy", "bought", 1.0)
    made = Trajectory(task, (Message("user", "Buy."),), (turn,), 1.0, True, StopReason.TERMINATED, "sft")
    return replace(made, **fields)


@pytest.mark.parametrize(
    ("form", "turns_", "why"),
    [
        ("trl", (Turn("a", "b", loss=False), Turn("c", "")), "no mark for a turn without loss"),
        ("openai", (Turn("a", "b", afresh=True), Turn("c", "")), "turns that begin afresh"),
        ("openai", (Turn(" ", "b"), Turn("c", "")), "neither text nor call"),
        ("openai", (Turn("a", "b", loss=False),), "no agent turn that carries loss"),
        ("sharegpt", (Turn("", "b", tool_calls=(ToolCall("f"),)),), "no place for function calls"),
        (
            "agenttraj",
            (Turn("a", "b", reasoning="hm"),),
            "no place for function calls, their answers, or thoughts",
        ),
    ],
)
def test_what_a_form_has_no_place_for_is_left_out_and_counted(
    tmp_path: Path, form: str, turns_: tuple[Turn, ...], why: str
) -> None:
    notes, good, odd = Notes(), trajectory(), trajectory(turns=turns_)
    assert export([good, odd, odd], "trajectory", form, tmp_path / "a.jsonl", notes) == 1
    [line] = notes.lines()
    assert why in line and line.endswith(": 2") and "--format" in line
    with pytest.raises(InputError, match=why):
        export([odd], "trajectory", form, tmp_path / "b.jsonl", Notes())
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_marks_of_the_loss_as_other_tools_write_them(tmp_path: Path) -> None:
    prompt = (Message("user", "Rules."), Message("assistant", "OK"), Message("user", "Buy."))
    one = trajectory(messages=prompt, turns=(Turn("a", "b", loss=False), Turn("c", "")))
    made = {form: MAKERS["trajectory"][form](one) for form in ("agenttraj", "openai", "sharegpt")}
    assert [said["loss"] for said in made["agenttraj"]["conversations"]] == [
        None,
        False,
        None,
        False,
        None,
        True,
    ]
    assert [said.get("weight", 1) for said in made["openai"]["messages"]] == [1, 0, 1, 0, 1, 1]
    assert [said.get("loss") for said in made["sharegpt"]["conversations"]] == [
        None,
        False,
        None,
        False,
        None,
        None,
    ]


def test_a_saved_data_set_is_one_of_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export([trajectory(), trajectory(sample=1)], "trajectory", "trl", tmp_path / "set", Notes())
    loaded = datasets.load_from_disk(str(tmp_path / "set"))
    assert loaded.num_rows == 2 and loaded[0]["messages"][1] == {"role": "assistant", "content": "buy"}
    # No column that holds nothing: templates take `tool_calls` that are null for calls.
    assert set(loaded.column_names) == {"id", "source", "reward", "success", "messages"}


GROWTH = """
import resource, sys
from pathlib import Path
from eto.cli.importing import import_files
from eto.cli.exporting import Filter, Hub, export_records

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

small, large, out = map(Path, sys.argv[1:])
for given, begin in ((small, True), (large, False)):
    place = out / given.stem
    import_files([given], place, None, None, 1.0)
    export_records(place / "successes.jsonl", place / "a.parquet", "openai", "", Filter(), Hub())
    before = peak() if begin else before
print(peak() - before)
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    """90 MB through import and export with a growth below that of a fraction of them."""
    text = "You see a door. " * 2000
    said = [{"from": "human", "value": text}, {"from": "gpt", "value": "open"}] * 2
    for name, count in (("small", 400), ("large", 1400)):
        lines = (json.dumps({"id": n, "reward": 1, "conversations": said}) for n in range(count))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    command = [
        sys.executable,
        "-c",
        GROWTH,
        *(str(tmp_path / n) for n in ("small.jsonl", "large.jsonl", "out")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) < 30, done.stdout
