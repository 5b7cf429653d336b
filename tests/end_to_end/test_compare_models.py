"""Two models on the same tasks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import eto.cli.compare_models as comparison
from eto.data.formats import read_trajectories
from eto.evaluation.statistics import by_task, reward
from eto.types import Message, StopReason, Task, Trajectory, Turn

GAME = f"{Path(__file__).resolve().parents[2] / 'examples' / 'countdown' / 'countdown.py'}:Countdown"


@pytest.fixture(scope="module")
def other(model, tmp_path_factory) -> Path:
    """A model of other weights."""
    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    torch.manual_seed(1)
    tensors = {name: each + 0.05 * torch.randn_like(each) for name, each in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_episodes_of_both_and_a_second_start_that_goes_on(model, other, tmp_path, command, monkeypatch):
    out = tmp_path / "both.jsonl"
    words = ("compare-models", model, other, "--environment", GAME, "--split", "train", "--out", out)
    words = (*words, "environment.workers=1", "rollout.max_action_tokens=8", "model.dtype=float32")
    load, loaded = comparison.policy_of, []

    def stopped_at_the_second(recipe, path):
        loaded.append(path)
        if path == str(other) and loaded.count(path) == 1:
            raise KeyboardInterrupt
        return load(recipe, path)

    monkeypatch.setattr(comparison, "policy_of", stopped_at_the_second)
    stopped = command(*words)
    assert stopped.code == 130 and "the same command resumes" in stopped.error
    assert not out.exists()
    printed = command.succeeds(*words)
    assert "resuming A: 4 of 4 are kept" in printed
    assert loaded == [str(model), str(other), str(other)], "A was loaded and played again"
    episodes = read_trajectories(out)
    assert [t.source for t in episodes] == ["A"] * 4 + ["B"] * 4
    assert [t.task.id for t in episodes[:4]] == [t.task.id for t in episodes[4:]]
    assert "agent minus A" in printed and "gained" in printed
    assert not list(tmp_path.glob(".*.part"))


def played(name: str, rewards: dict[str, float]) -> list[Trajectory]:
    return [
        Trajectory(
            task=Task(f"game/{each}", "game", each.split("-")[0], "dev"),
            messages=(Message("user", "go"),),
            turns=(Turn("go", "."),),
            reward=value,
            success=value == 1.0,
            stop=StopReason.TERMINATED,
            source=name,
        )
        for each, value in rewards.items()
    ]


def test_the_difference_is_b_minus_a_by_type_too(capsys):
    from eto.experiment.recipe import parse_recipe

    before = played("A", {"cook-1": 0.0, "cook-2": 0.0, "find-1": 1.0, "find-2": 0.5})
    after = played("B", {"cook-1": 1.0, "cook-2": 1.0, "find-1": 0.0, "find-2": 0.5})
    assert by_task(after, reward)["game/cook-1"] == 1.0
    recipe = parse_recipe("name: n\nenvironment: {name: bandit}\n", [], source="test")
    comparison.print_comparison(("one", "two"), before, after, "dev", recipe)
    printed = capsys.readouterr().out
    # By hand: (1 + 1 - 1 + 0) / 4 over all, (1 + 1) / 2 for cook, (-1 + 0) / 2 for find.
    assert "+0.250" in printed
    assert "| cook | 2 | +1.000" in printed and "| find | 2 | -0.500" in printed
    assert "B beside A: gained 2, lost 1, kept 0, missed 1" in printed


def test_mistakes_are_told(model, other, tmp_path, command):
    command.fails("compare-models", model, model, "--environment", GAME, says=["the same model"])
    command.fails("compare-models", model, tmp_path / "none", "--environment", GAME, says=["none"])
    command.fails(
        "compare-models",
        model,
        other,
        "--environment",
        GAME,
        "model.path=x",
        says=["model.path has no effect"],
    )
