"""The engine that a recipe names gets the learner's weights whenever they have changed, and no other time."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from completion_server import serving
from tiny import save_tiny
from token_server import TokenServer

from eto.engines.in_process import InProcessEngine
from eto.errors import EngineFailure
from eto.experiment.acting import Acting
from eto.experiment.recipe import Recipe
from eto.experiment.watch import Silent
from eto.protocols import Sampling

PROMPT = list(range(40, 60))
PROGRAM = [sys.executable, str(Path(__file__).resolve().parents[1] / "helpers" / "token_server.py")]


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def recipe_of(rollout: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({"name": "x", "environment": {"name": "scienceworld"}, "rollout": rollout})


def change(learner: Any) -> None:
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter += 0.3 * parameter.std()
    learner.weights_changed()


def written(actor: Any) -> Any:
    return asyncio.run(actor.engine.generate(PROMPT, Sampling(12))).ids


def test_in_this_process_by_default(tiny_policy, tmp_path):
    with Acting(recipe_of({}), Silent(), tmp_path / "engine") as acting:
        assert isinstance(acting.actor(tiny_policy, "a").engine, InProcessEngine)
    assert not (tmp_path / "engine").exists()


def test_weights_are_given_when_they_have_changed(tiny_policy, tiny_path, tmp_path):
    """From where they lie on the disk, where they do; else from files written for that."""
    place, other = tmp_path / "engine", save_tiny(tmp_path / "other", initializer_range=0.1)
    with serving(TokenServer(tiny_path, context=tiny_policy.max_context)) as server:
        recipe = recipe_of({"engine": "server", "server": {"urls": [server.url]}})

        def given() -> list[str]:
            calls = [body for path, body, _ in server.asked if path == "/collective_rpc"]
            return [body["kwargs"]["weights_path"] for body in calls]

        with Acting(recipe, Silent(), place) as acting:
            actor = acting.actor(tiny_policy, "a")
            assert given() == [str(place / "weights")]
            assert written(actor) == written(tiny_policy.actor("b"))
            acting.actor(tiny_policy, "c")
            assert len(given()) == 1, "they are the same"
            change(tiny_policy)
            assert written(acting.actor(tiny_policy, "a")) == written(tiny_policy.actor("b"))
            tiny_policy.load(other)
            assert written(acting.actor(tiny_policy, "a")) == written(tiny_policy.actor("b"))
            assert given() == [str(place / "weights")] * 2 + [str(other)]
    assert not (place / "weights").exists()


def test_a_server_of_ours_that_keeps_old_weights_is_started_again(tiny_policy, tmp_path):
    """From then on always; it says that it took them, its log-probs show that it did not."""
    variables = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry), "TOY_DEAF": "1"}
    vllm = {"command": PROGRAM, "environment": variables}
    said = Said()
    with Acting(recipe_of({"engine": "vllm", "vllm": vllm}), said, tmp_path) as acting:
        engine: Any = acting.actor(tiny_policy, "a").engine
        for generation in (2, 3):
            change(tiny_policy)
            assert written(acting.actor(tiny_policy, "a")) == written(tiny_policy.actor("b"))
            assert engine.replicas[0].generation == generation
    assert len(said.lines) == 1 and "did not take the new weights" in said.lines[0]


def test_a_server_of_others_that_keeps_old_weights_ends_the_run(tiny_policy, tiny_path, tmp_path):
    with serving(TokenServer(tiny_path, context=tiny_policy.max_context)) as server:
        recipe = recipe_of({"engine": "server", "server": {"urls": [server.url]}})
        with Acting(recipe, Silent(), tmp_path) as acting:
            acting.actor(tiny_policy, "a")
            server.deaf = True
            change(tiny_policy)
            with pytest.raises(EngineFailure, match="still does not act"):
                acting.actor(tiny_policy, "a")
