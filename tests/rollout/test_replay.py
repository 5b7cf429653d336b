"""Trajectories from elsewhere, played again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from counting import Counting
from playing import how
from typer.testing import CliRunner

from eto.cli import app
from eto.data.formats import read_trajectories
from eto.environments import load_suite
from eto.rollout.experts import collect_experts
from eto.rollout.replay import replay
from eto.types import Message, StopReason, Task, ToolCall, Trajectory, Turn

HERE = how(workers=0, slots=2)


def recorded(identity: str, actions: list[str], reward: float = 1.0, **changes) -> Trajectory:
    task = Task(identity, "imported", "imported", "train")
    turns = tuple(Turn(action, "as told", reward) for action in actions)
    fields = {"success": None, "stop": StopReason.TERMINATED, "source": "expert"} | changes
    return Trajectory(task, (Message("user", "Count."),), turns, reward, **fields)


def test_each_is_judged_by_what_its_actions_earn():
    suite = Counting()
    given = [
        recorded("counting/1", ["up"]),
        recorded("4", ["Thought: four.\nAction: up"] * 4),  # found by the end of its id
        recorded("counting/3", ["up", "nonsense"]),
        recorded("counting/99", ["up"]),
        recorded("counting/2", ["up"], reward=0.5),
        recorded("counting/5", ["fail"]),
    ]
    found = replay(given, suite, **HERE)
    assert [t.task.id for t in found.verified] == ["counting/1", "counting/4", "counting/2"]
    one, four, half = found.verified
    assert (one.task.environment, one.success, one.turns[0].observation) == ("counting", True, "at 1")
    assert four.turns[0].action == "Thought: four.\nAction: up"
    assert (half.reward, half.success, half.stop) == (0.5, False, StopReason.OUT_OF_TURNS)
    assert found.other_observations == 1 + 4 + 1
    [failed] = found.failed
    assert failed.turns == given[2].turns
    assert failed.detail == "replayed, 2 of 2 actions earn 0.333333; the file says 1"
    assert [t.detail.split(":")[0] for t in found.not_replayable] == [
        "no task counting/99 in counting",
        "the simulator failed",
    ]


def test_calls_of_functions_cannot_be_played():
    called = recorded("counting/1", ["up"])
    called = replace(called, turns=(replace(called.turns[0], tool_calls=(ToolCall("count"),)),))
    found = replay([called], Counting(), **HERE)
    assert [t.detail for t in found.not_replayable] == ["calls functions (count), and counting takes text"]
    assert found.not_replayable[0].turns == called.turns


def test_a_replayed_turn_keeps_what_the_agent_said():
    given = recorded("counting/2", ["up", "up"])
    first = replace(given.turns[0], reasoning="Two.", loss=False, answers=(Message("tool", "as told"),))
    [found] = replay([replace(given, turns=(first, given.turns[1]))], Counting(), **HERE).verified
    answers = (Message("tool", "at 1"),)
    assert found.turns[0] == replace(first, observation="at 1", reward=0.5, answers=answers)


def test_a_simulator_too_slow_for_an_episode_fails():
    settings = how(workers=0, slots=2, episode_seconds=1e-9)
    found = replay([recorded("counting/1", ["up"])], Counting(), **settings)
    assert [t.detail for t in found.not_replayable] == [
        "the simulator failed: the simulator worked 0 s on one episode"
    ]


def test_what_is_verified_can_be_replayed_in_workers():
    suite = load_suite("webshop", tagger="words", products=40)
    experts = collect_experts(suite, suite.tasks("train")[:6])
    lost = [replace(t, turns=t.turns[:-1]) for t in experts]
    found = replay([*experts, *lost], suite, **how(workers=2, slots=4))
    assert found.verified == experts
    assert len(found.failed) == len(experts)
    assert found.other_observations == 0


@pytest.mark.parametrize("keep", [True, False])
def test_the_command(tmp_path, keep):
    suite = load_suite("webshop", tagger="words", products=40)
    [expert] = collect_experts(suite, suite.tasks("train")[:1])
    said = [{"from": "human", "value": "Buy."}]
    for turn in expert.turns:
        said += [{"from": "gpt", "value": turn.action}, {"from": "human", "value": turn.observation}]
    number = expert.task.id.rpartition("/")[2]
    items = [{"id": number, "conversations": said[:-1]}, {"id": "99999", "conversations": said[:2]}]
    (tmp_path / "theirs.json").write_text(json.dumps(items), encoding="utf-8")
    command = ["replay", str(tmp_path / "theirs.json"), "--out", str(tmp_path / "good.jsonl")]
    command += ["--failed", str(tmp_path / "bad.jsonl")] * keep
    options = ["environment.name=webshop", "environment.options.products=40"]
    done = CliRunner().invoke(app, [*command, *options, "environment.options.tagger=words"])
    assert done.exit_code == 0, done.output
    assert "1 of 2 verified" in done.output
    assert "0 failed, 1 not replayable" in done.output
    assert "no task 99999 in webshop" in done.output
    [good] = read_trajectories(tmp_path / "good.jsonl")
    assert (good.task.id, good.success) == (expert.task.id, True)
    assert (tmp_path / "bad.jsonl").exists() is keep
