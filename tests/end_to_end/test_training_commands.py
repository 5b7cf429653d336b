"""Commands by themselves: training resumes and leaves the figures of its steps, agents have names."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from coin_game import RECIPE

import eto.cli.training as training
from eto.data.formats import read_trajectories, write_pairs
from eto.types import Pair

GAME = f"{Path(__file__).resolve().parents[2] / 'examples' / 'countdown' / 'countdown.py'}:Countdown"


@pytest.fixture
def files(tmp_path, model, command):
    """Options for a recipe and a model, experts, and pairs of them with what is worse."""
    recipe = {
        "name": "commands",
        "model": {"path": str(model), "dtype": "float32"},
        "environment": {"name": GAME, "workers": 1},
        "method": {
            "name": "eto",
            "sft": {**RECIPE["method"]["sft"], "batch_size": 1, "epochs": 3},
            "dpo": {**RECIPE["method"]["dpo"], "batch_size": 1, "epochs": 3},
        },
    }
    path, experts, pairs = tmp_path / "recipe.yaml", tmp_path / "experts.jsonl", tmp_path / "pairs.jsonl"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command.succeeds("expert", "--recipe", path, "--out", experts)
    good = read_trajectories(experts)
    write_pairs(pairs, [Pair(each.task, each, _worse(each), len(each.turns) - 1) for each in good])
    return {"sft": ("--recipe", path, "--expert", experts), "dpo": ("--recipe", path, "--pairs", pairs)}


def _worse(trajectory):
    """The same episode with another last action."""
    *before, last = trajectory.turns
    wrong = replace(last, action="9", reward=0.0)
    return replace(trajectory, turns=(*before, wrong), reward=0.0, success=False, source="policy")


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_a_stopped_training_resumes_and_ends_as_one_in_one_go(name, files, tmp_path, command, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    command.succeeds(name, *files[name], "--out", whole)
    show = training.show_step

    def stopped_at_the_ninth(watch, stage, step):
        show(watch, stage, step)
        time.sleep(0.25)  # a checkpoint is due after a second
        if step.step == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "show_step", stopped_at_the_ninth)
    words = (name, *files[name], "--out", out, "checkpoint_seconds=1")
    stopped = command(*words)
    assert stopped.code == 130 and "the same command resumes" in stopped.error
    monkeypatch.setattr(training, "show_step", show)
    command.fails(*words, "seed=5", says=["what another command began", "seed: 0 -> 5"])
    printed = command.succeeds(*words)
    assert f"of 12 steps are kept in {tmp_path / '.out.part'}" in printed
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13)) and {row["stage"] for row in rows} == {name}
    assert all(row["loss"] is not None for row in rows)
    assert not (tmp_path / ".out.part").exists() and not (tmp_path / ".whole.part").exists()


def test_an_agent_has_a_name_and_its_figures_a_file(files, tmp_path, command):
    recipe, out, results = files["sft"][1], tmp_path / "played.jsonl", tmp_path / "results.json"
    short = ("--recipe", recipe, "rollout.max_action_tokens=4")
    words = ("evaluate", *short, "--name", "mine", "--out", out, "--results", results)
    assert "mine" in command.succeeds(*words)
    assert {t.source for t in read_trajectories(out)} == {"mine"}
    figures = json.loads(results.read_text())
    assert (figures["agent"], figures["split"], figures["tasks"]) == ("mine", "dev", 2)
    assert figures["kinds"]["count"]["reward"]["n"] == 2
    command.fails(*words[:-4], "--results", results, says=["--overwrite"])
    explored = tmp_path / "explored.jsonl"
    command.succeeds("explore", *short, "--name", "mine", "--out", explored)
    assert {t.source for t in read_trajectories(explored)} == {"mine"}
