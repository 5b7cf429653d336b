"""PPO from recipe to report on a small game: what it credits, and that what paid becomes likelier."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import yaml
from coin_game import RECIPE
from safetensors.torch import load_file

from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.evaluation.costs import training_tokens
from eto.settings.policy_gradient import PpoUpdateSettings
from eto.training.learner import load_learner
from eto.training.policy_gradient import add_value_head, credited, episode_examples, ppo
from eto.types import Phase


@pytest.fixture
def finished(tmp_path: Path, model: Path, command) -> Path:
    """A finished run of two rounds."""
    values = deepcopy(dict(RECIPE))
    method = {"name": "ppo", "iterations": 2, "sft": RECIPE["method"]["sft"] | {"epochs": 5}}
    method["explore"] = {"samples": 2, "temperature": 1.0}
    method["ppo"] = {"learning_rate": 1e-3, "batch_size": 16, "kl_weight": 0.01}
    values |= {"run_directory": str(tmp_path / "run"), "method": method}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 48, "dev_per_kind": 4, "test_per_kind": 4}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    command.succeeds("run", path)
    return tmp_path / "run"


def test_a_run_credits_and_improves(finished: Path) -> None:
    results = build_results(finished)
    assert set(results["splits"]["test"]["agents"]) == {"sft", "ppo-1", "ppo-2"}
    heads = [load_file(finished / "stages" / f"ppo-{n}" / "value_head.safetensors")["weight"] for n in (1, 2)]
    assert heads[0].abs().max() > 0 and (heads[1] - heads[0]).abs().max() > 0, (
        "it goes on from round to round"
    )
    tokens = training_tokens(finished)
    assert list(tokens) == ["sft", "ppo-1", "ppo-2"] and min(tokens.values()) > 0, "they count as costs"
    kept = load_file(finished / "stages" / "ppo-1" / "model" / "model.safetensors")
    assert not [name for name in kept if "value_head" in name]
    with np.load(finished / "stages" / "ppo-1" / "scored.npz") as first:
        assert np.array_equal(first["old0"], first["reference0"]), "in the first round both are the clone"
        assert not first["values0"].any(), "values begin at 0"
    with np.load(finished / "stages" / "ppo-2" / "scored.npz") as second:
        assert not np.array_equal(second["old0"], second["reference0"])


def test_what_paid_becomes_likelier(finished: Path) -> None:
    """One update on a round's episodes: those above the mean gain likelihood, the others lose it."""
    learner = load_learner(finished / "stages" / "sft" / "model", dtype="float32")
    with TrajectoryStore(finished / "trajectories.sqlite", read_only=True) as store:
        episodes = store.get(Phase.explore(1))
    examples = episode_examples(learner, episodes)
    rewards = np.array([reward for _, reward in examples])
    assert rewards.std() > 0, "episodes of one reward teach nothing"
    add_value_head(learner)
    trees = [example.tree for example, _ in examples]
    before = [leaf for [leaf] in learner.score(trees)]
    settings = PpoUpdateSettings(epochs=1, learning_rate=3e-4, batch_size=len(examples), decay=1.0)
    zeros = [np.zeros_like(leaf) for leaf in before]
    given = credited(examples, before, before, zeros, settings)
    [step] = list(ppo(learner, given, settings))
    assert step.figures["kl"] == pytest.approx(0, abs=1e-5) and step.figures["clipped"] == 0
    after = [leaf for [leaf] in learner.score(trees)]
    moved = np.array([float((one - other).mean()) for one, other in zip(after, before, strict=True)])
    high = rewards > rewards.mean()
    assert moved[high].mean() > moved[~high].mean()
