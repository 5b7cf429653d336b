"""One episode in the terminal, its input through a pipe."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from coin_game import environment_of_child

from eto.data.formats import read_trajectories

GAME = f"{Path(__file__).resolve().parents[2] / 'examples' / 'countdown' / 'countdown.py'}:Countdown"


@pytest.fixture
def typed(monkeypatch):
    """Puts lines on standard input."""
    return lambda *lines: monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{e}\n" for e in lines)))


def test_by_hand_through_a_pipe(tmp_path):
    out = tmp_path / "episode.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "eto", "play", GAME, "--task", "countdown/3", "--out", str(out)],
        input="\n2\nnonsense\n1\n0\n",
        env=environment_of_child(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Count down from 3 to 0." in done.stdout and "reward so far 0.333333" in done.stdout
    assert "type an action" in done.stdout and "ended (terminated): reward 1, solved, 4 turns" in done.stdout
    [episode] = read_trajectories(out)
    assert [turn.action for turn in episode.turns] == ["2", "nonsense", "1", "0"]
    assert episode.source == "by-hand" and episode.success and episode.reward == 1.0


def test_an_expert_is_followed_and_left(tmp_path, command, typed):
    out = tmp_path / "episode.jsonl"
    typed("", "", "")
    printed = command.succeeds("play", GAME, "--task", "countdown/3", "--expert", "--out", out)
    assert "1 expert> 2" in printed and "solved, 3 turns" in printed
    assert read_trajectories(out)[0].source == "expert"
    typed("", "5", "1", ":quit")
    printed = command.succeeds("play", GAME, "--task", "countdown/3", "--expert", "--out", out, "--overwrite")
    assert "expert has nothing more to propose" in printed
    [episode] = read_trajectories(out)
    assert [turn.action for turn in episode.turns] == ["2", "5", "1"]
    assert (
        episode.source == "expert+by-hand" and episode.reward == pytest.approx(2 / 3) and not episode.success
    )


def test_an_agent_is_overruled_and_goes_on_from_there(model, tmp_path, command, typed):
    out, agent = tmp_path / "episode.jsonl", ("--model", model, "--max-action-tokens", 8)
    typed("", "2", "", ":quit")
    command.succeeds("play", GAME, "--task", "countdown/3", *agent, "--out", out)
    [episode] = read_trajectories(out)
    first, mine, last = episode.turns
    assert mine.action == "2" and not mine.action_ids and episode.source == "policy+by-hand"
    assert first.action_ids and last.action_ids and episode.tokenizer
    # What it proposes after "2" is what a model proposes to which nothing else was ever proposed.
    typed(first.action, "2", "", ":quit")
    again = tmp_path / "again.jsonl"
    command.succeeds("play", GAME, "--task", "countdown/3", *agent, "--out", again)
    assert read_trajectories(again)[0].turns[2].action_ids == last.action_ids


def test_valid_actions_are_listed(command, typed):
    typed(":actions", ":actions take", ":quit")
    printed = command.succeeds(
        "play", "textworld-express", "game=coin", "params=numLocations=2,includeDoors=0"
    )
    assert "  look around\n" in printed
    typed(":actions")
    assert "does not list its valid actions" in command.succeeds("play", GAME)


def test_mistakes_are_told(tmp_path, command):
    command.fails("play", GAME, "--task", "countdown/99", says=["countdown/2, countdown/3"])
    command.fails("play", GAME, "--split", "exam", says=["train, dev, test"])
    command.fails("play", GAME, "--expert", "--model", "embedded", says=["one of the two"])
    command.fails("play", GAME, "--out", tmp_path, says=["directory"])


def test_input_that_is_none_is_told(monkeypatch, command):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1\xff\n"), "utf-8"))
    command.fails("play", GAME, says=["standard input: it is not text", "write it in utf-8"])
    monkeypatch.setattr(sys, "stdin", None)
    command.fails("play", GAME, says=["standard input: it is closed", "pipe actions into it"])
