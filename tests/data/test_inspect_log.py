"""Logs of Inspect: what is in them, and that Inspect itself reads it where it is installed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from tiny import trajectory

from eto.data.inspect_log import write_logs
from eto.data.inspect_samples import Played, messages_of, round_of
from eto.errors import InputError
from eto.types import Message, Phase, StopReason, ToolCall, Trajectory, Turn

CALL = ToolCall("find", '{"what": "cup"}', "c1")
FOUND = Message("tool", "on the table", tool_call_id="c1", name="find")


def with_a_call() -> Trajectory:
    """A thought and a call, their answer, a reply that nothing answers."""
    looked = Turn("", FOUND.content, 0.25, (1, 2), None, "where is it?", (CALL,), (FOUND,))
    done = Turn("here \ud83d\ude00 \ud83d", "", 0.5, (3,), loss=False)
    played = trajectory(number=9, source="eto-2", reward=0.5, success=None, tokenizer="t")
    return replace(played, turns=(looked, done))


def episodes() -> list[Played]:
    out = StopReason.OUT_OF_TURNS
    lost = trajectory(("wait", "no"), ("wait", "no"), source="sft", reward=0.0, success=False, stop=out)
    return [
        Played(trajectory(("take cup", "ok")), "expert"),
        Played(lost, "explore/1"),
        Played(replace(lost, sample=1, reward=0.5), "explore/1"),
        Played(with_a_call(), "evaluate/eto-2/test"),
    ]


def parts(path: Path) -> dict[str, Any]:
    with ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


def write(played: Iterable[Played], out: Path) -> tuple[int, int]:
    return write_logs(played, out, "mine")


def test_one_log_has_a_sample_for_each_episode(tmp_path: Path) -> None:
    assert write(episodes(), tmp_path / "a.eval") == (4, 1)
    found = parts(tmp_path / "a.eval")
    samples = {name: value for name, value in found.items() if name.startswith("samples/")}
    assert sorted(samples) == [
        *("samples/tiny/0_epoch_1.json", "samples/tiny/0_epoch_2.json", "samples/tiny/0_epoch_3.json"),
        "samples/tiny/9_epoch_1.json",
    ]
    second = samples["samples/tiny/0_epoch_2.json"]
    assert second["scores"] == {"reward": {"value": 0.0}, "success": {"value": "I"}}
    assert second["limit"]["limit"] == 2 and second["output"]["model"] == "sft"
    assert second["metadata"] == {
        **{"task": "tiny/0", "environment": "tiny", "type": "tiny", "split": "train", "agent": "sft"},
        **{"phase": "explore/1", "round": 1, "sample": 0, "seed": 0, "stop": "out_of_turns", "turns": 2},
    }
    head = found["header.json"]
    assert head["eval"]["model"] == "several" and head["eval"]["config"] == {}
    assert head["eval"]["dataset"] == {"name": "tiny", "samples": 4}, "tasks have unequal numbers of episodes"
    reward, success = (score["metrics"] for score in head["results"]["scores"])
    assert {name: metric["value"] for name, metric in reward.items()} == {
        **{"expert": 1.0, "explore/1": 0.25, "evaluate/eto-2/test": 0.5},
    }
    assert sorted(success) == ["expert", "explore/1"], "where it is known"
    assert [(each["id"], each["epoch"]) for each in found["summaries.json"]] == [
        *(("tiny/0", 1), ("tiny/0", 2), ("tiny/0", 3), ("tiny/9", 1)),
    ]


def test_calls_thoughts_and_what_each_turn_earned() -> None:
    [_, _, asked, answer, last] = messages_of(with_a_call())
    assert asked["content"][0] == {"type": "reasoning", "reasoning": "where is it?"}
    assert asked["tool_calls"] == [
        {"id": "c1", "function": "find", "arguments": {"what": "cup"}, "type": "function"}
    ]
    assert asked["metadata"] == {"turn": 1, "reward": 0.25, "loss": True}
    assert (answer["role"], answer["tool_call_id"], answer["function"]) == ("tool", "c1", "find")
    assert last["content"] == "here \N{GRINNING FACE} \N{REPLACEMENT CHARACTER}", "valid Unicode"
    assert last["metadata"]["loss"] is False and last["model"] == "eto-2"


def test_a_directory_has_a_log_for_each_phase_and_keeps_other_files(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "another.eval").write_text("mine")
    assert write(episodes(), logs) == (4, 3)
    assert sorted(path.name for path in logs.iterdir()) == [
        *("another.eval", "evaluate-eto-2-test.eval", "expert.eval", "explore-1.eval")
    ]
    assert (logs / "another.eval").read_text() == "mine"
    explored = parts(logs / "explore-1.eval")["header.json"]
    assert explored["eval"]["task"] == "mine explore/1"
    assert explored["eval"]["model"] == "sft" and explored["eval"]["config"] == {"epochs": 2}
    assert explored["eval"]["dataset"] == {"name": "tiny", "samples": 1, "sample_ids": ["tiny/0"]}
    reward = explored["results"]["scores"][0]["metrics"]
    assert reward["mean"]["value"] == reward["stderr"]["value"] == 0.25, "0 and 0.5"


def test_episodes_of_a_file_are_told_apart_by_agent(tmp_path: Path) -> None:
    mixed = [Played(trajectory(("a", ""), number=n, source=f"a{'/ '[n % 2]}b")) for n in range(4)]
    assert write(mixed, tmp_path / "logs") == (4, 2)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["a-b-2.eval", "a-b.eval"]


def test_a_failed_episode_is_an_error_and_no_score(tmp_path: Path) -> None:
    fell = trajectory(("a", ""), reward=0.0, success=None, stop=StopReason.ENGINE_FAILED, detail="gone")
    write([Played(fell), Played(trajectory(("a", ""), number=1))], tmp_path / "a.eval")
    found = parts(tmp_path / "a.eval")
    assert found["samples/tiny/0_epoch_1.json"]["error"]["message"] == "gone"
    assert found["samples/tiny/0_epoch_1.json"]["scores"] is None
    results = found["header.json"]["results"]
    assert (results["total_samples"], results["completed_samples"]) == (2, 1)
    assert results["scores"][0]["metrics"]["mean"]["value"] == 1.0


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    for out in (tmp_path / "a.eval", tmp_path / "logs"):
        with pytest.raises(InputError, match="no trajectories to write"):
            write([], out)
        assert not out.exists()


@pytest.mark.parametrize(
    ("phase", "source", "number"),
    [
        *((Phase.explore(3), "sft", 3), (Phase.evaluate("eto-2", "test"), "x", 2)),
        *((Phase.evaluate("dpo-1/epoch-4", "dev"), "x", 1), (Phase.evaluate("sft", "dev"), "eto-9", None)),
        *((Phase.expert(), "expert", None), (None, "eto-1", 1), (None, "sft/epoch-2", None)),
    ],
)
def test_the_round_of_an_episode(phase: Phase | None, source: str, number: int | None) -> None:
    assert round_of(phase, source) == number


def test_inspect_reads_what_is_written(tmp_path: Path) -> None:
    """Its own models check every field; it is no dependency, for it brings a hundred packages."""
    log = pytest.importorskip("inspect_ai.log", reason="inspect_ai is not installed")
    fell = trajectory(("a", ""), number=3, reward=0.0, success=None, stop=StopReason.ENGINE_FAILED)
    write([*episodes(), Played(fell)], tmp_path / "a.eval")
    path = str(tmp_path / "a.eval")
    whole, head = log.read_eval_log(path), log.read_eval_log(path, header_only=True)
    assert whole.status == "success" and head.eval.task == "mine" and len(whole.samples) == 5
    by_key = {(sample.id, sample.epoch): sample for sample in whole.samples}
    asked = by_key["tiny/9", 1].messages[2]
    assert asked.tool_calls[0].arguments == {"what": "cup"} and asked.metadata["reward"] == 0.25
    assert asked.content[0].reasoning == "where is it?"
    assert by_key["tiny/0", 3].scores["reward"].value == 0.5 and by_key["tiny/3", 1].error is not None
    one = log.read_eval_log_sample(path, "tiny/0", 1)
    assert one.output.completion == "take cup" and one.metadata["phase"] == "expert"
    assert [each.id for each in log.read_eval_log_sample_summaries(path)].count("tiny/0") == 3
    again = str(tmp_path / "again.eval")
    log.write_eval_log(whole, again)
    assert log.read_eval_log(again).samples[0].messages == whole.samples[0].messages
    assert [info.task for info in log.list_eval_logs(str(tmp_path))] == ["mine", "mine"]
