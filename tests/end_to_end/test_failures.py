"""Commands on environments that fail, in part or throughout, and commands that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from coin_game import environment_of_child

from eto.data.formats import read_trajectories
from eto.types import StopReason

pytestmark = pytest.mark.timeout(180)
SMALL = ("environment.workers=1", "environment.name=odd")
FEW = ("rollout.max_action_tokens=8", "model.dtype=float32")
PLAYED = {
    "explore": (*SMALL, *FEW, "rollout.slots=1"),
    "evaluate": (*SMALL, *FEW, "rollout.slots=1"),
    "expert": SMALL,
}
"""Overrides for each command, of what it reads."""


@pytest.fixture
def package(tmp_path: Path, monkeypatch) -> Path:
    """The suite `odd` as an installed package."""
    folder = tmp_path / "installed"
    reported = folder / "odd_game-1.0.dist-info"
    reported.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "odd_game.py", folder)
    (reported / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-game\nVersion: 1.0\n")
    (reported / "entry_points.txt").write_text("[eto.environments]\nodd = odd_game:Odd\n")
    monkeypatch.syspath_prepend(folder)
    return folder


def options(**given: object) -> str:
    return f"environment.options={given}"


@pytest.mark.parametrize("name", ["explore", "evaluate"])
def test_some_that_fail_are_counted_with_their_reason(name, package, model, command, tmp_path):
    out = tmp_path / "out.jsonl"
    split = ("--split", "train")
    printed = command.succeeds(
        name, "--out", out, "--model", model, *split, *PLAYED[name], options(broken=[1], wordy=[2])
    )
    assert "1 of 4 episodes failed and are set aside" in printed
    assert "odd_game.py:" in printed and "ValueError: number 1 cannot be played" in printed
    assert "1 of 4 episodes have no turn" in printed and "more than the context of" in printed
    found = read_trajectories(out)
    assert [t.task.id for t in found] == [f"odd/train/{n}" for n in range(4)]
    assert [t.stop for t in found][1:3] == [StopReason.ENVIRONMENT_FAILED, StopReason.OUT_OF_TOKENS]
    assert found[2].turns == () and found[0].turns and found[3].turns


@pytest.mark.parametrize("name", ["explore", "evaluate"])
def test_where_all_fail_the_command_fails(name, package, model, command, tmp_path):
    given = (name, "--out", tmp_path / "out.jsonl", "--model", model, *PLAYED[name])
    says = [
        "none of 4 episodes could be played",
        "4 × ",
        "odd_game.py:",
        "ValueError",
        "environments check odd",
    ]
    command.fails(*given, options(broken=[0, 1, 2, 3]), code=3, says=says)
    command.fails(
        *given,
        options(wordy=[0, 1, 2, 3]),
        says=["no prompt of 4 episodes fits the context", "model.max_context", "hint:"],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["installed"], "nothing is left behind"


def test_a_server_that_is_down_is_no_agent_that_fails(model, command):
    server = {"address": "http://127.0.0.1:9", "train": [0, 2], "dev": [2, 4], "test": [4, 6]}
    command.fails(
        *("evaluate", "--model", model, *FEW, "environment.name=agentgym", options(**server)),
        code=3,
        says=["none of 2 episodes could be played", "2 × http://127.0.0.1:9/create: ConnectError"],
    )


def test_experts_that_are_not_there_are_told_with_their_reasons(package, command, tmp_path):
    out = tmp_path / "expert.jsonl"
    printed = command.succeeds("expert", "--out", out, *SMALL, options(unknown=[0], unsolved=[1], broken=[2]))
    for part in (
        "3 of 4 tasks have no expert",
        "1 have no expert in the suite: odd/train/0",
        "1 have an expert that does not solve them: odd/train/1",
        "1 of its 1 actions earn 0",
        "1 could not be played: odd/train/2",
        "ValueError: number 2 cannot be played",
        "1 of 4 tasks have an expert that solves them",
    ):
        assert part in printed, printed
    assert [t.task.id for t in read_trajectories(out)] == ["odd/train/3"]
    command.fails(
        *("expert", "--out", tmp_path / "none.jsonl", *SMALL, options(broken=[0, 1, 2, 3])),
        code=3,
        says=["none of 4 tasks has an expert that solves it", "4 could not be played", "4 × ", "ValueError"],
    )
    replayed = ("replay", out, "--out", tmp_path / "again.jsonl", *SMALL)
    command.succeeds(*replayed, options())
    command.fails(
        *replayed, "--overwrite", options(broken=[3]), code=3, says=["none of 1 trajectories", "ValueError"]
    )


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"broken": [0, 1, 2, 3]}, ["none of 4 tasks has an expert", "4 could not be played", "ValueError"]),
        ({"strict": True}, ["none of 4 episodes could be played", "4 × ", "KeyError: 'nobody says this'"]),
    ],
)
def test_a_run_whose_simulators_all_fail_says_why(fault, says, package, model, command, tmp_path):
    """Of the experts in its first stage, of the cloned agent in its dev check."""
    recipe, directory = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(
        "name: odd\nenvironment: {name: odd}\nmethod: {sft: {epochs: 1, learning_rate: 1e-9}}\n"
    )
    fields = (f"run_directory={directory}", f"model.path={model}", *FEW, options(**fault))
    command.fails("run", recipe, *fields, code=3, says=says)


@pytest.mark.parametrize("name", ["explore", "evaluate", "expert"])
def test_a_killed_command_resumes_where_it_stopped(name, package, model, command, tmp_path):
    """Killed in its third episode."""
    out = tmp_path / "out.jsonl"
    given = ["--out", str(out)] if name == "expert" else ["--out", str(out), "--model", str(model)]
    call = [name, *given, *PLAYED[name], options(kill_at=3, count=str(tmp_path / "count"))]
    environment = environment_of_child() | {"PYTHONPATH": os.pathsep.join([str(package), *sys.path])}
    killed = subprocess.run([sys.executable, "-m", "eto", *call], env=environment, timeout=150)
    assert killed.returncode == -signal.SIGKILL and not out.exists()
    command.fails(*call, "seed=1", says=["another command", "seed: 0 -> 1"])
    assert "resuming: 2 of 4 are kept" in command.succeeds(*call)
    assert len(read_trajectories(out)) == 4
    assert (tmp_path / "count").stat().st_size == 5, "two episodes, the one that was lost, and two"
    assert not (tmp_path / ".out.jsonl.part").exists()
