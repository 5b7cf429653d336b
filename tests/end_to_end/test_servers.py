"""A run whose episodes are played by a server: the same as one that acts in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coin_game import save_model, write_recipe
from completion_server import closes, serving
from token_server import TokenServer

from eto.data.formats import read_trajectories
from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.types import Phase, Trajectory

SHORT = {
    "sft": {"epochs": 3},
    "dpo": {"epochs": 1},
    "tasks": {"train_per_kind": 24, "dev_per_kind": 4, "test_per_kind": 4},
}
CONTEXT = 512
BEFORE = 30
"""Requests answered: more than the check of weights and dev tasks take before the agent explores."""


def episodes(run: Path) -> dict[tuple[str, str, int], Trajectory]:
    """All that was played, without what rounding decides."""
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        phases = [Phase.explore(1), *(Phase.evaluate(agent, "test") for agent in ("sft", "eto-1"))]
        kept = {(phase.text, t.task.id, t.sample): t for phase in phases for t in store.get(phase)}
    return {
        key: replace(t, turns=tuple(replace(turn, log_probs=()) for turn in t.turns))
        for key, t in kept.items()
    }


def recipe_of(path: Path, model: Path, run: Path, **rollout: Any) -> Path:
    return write_recipe(path, model, run, **SHORT, rollout={"slots": 16, "max_action_tokens": 8} | rollout)


def at(server: TokenServer, **more: Any) -> dict[str, Any]:
    return {"engine": "server", "server": {"urls": [server.url], "retries": 1} | more}


def test_a_run_on_a_server_is_the_run_in_this_process(model, tmp_path, command):
    command.succeeds("run", recipe_of(tmp_path / "a.yaml", model, tmp_path / "here"))
    with serving(TokenServer(model, context=CONTEXT)) as server:
        command.succeeds("run", recipe_of(tmp_path / "b.yaml", model, tmp_path / "there", **at(server)))
        loads = [body for path, body, _ in server.asked if path == "/collective_rpc"]
    assert len(loads) >= 3, "each agent's weights, and those of dev checks"
    here, there = episodes(tmp_path / "here"), episodes(tmp_path / "there")
    assert here == there and len(here) > 24
    assert any(turn.action_ids for t in there.values() for turn in t.turns)
    assert not (tmp_path / "there" / "engine" / "weights").exists()
    played = [tmp_path / "here.jsonl", tmp_path / "there.jsonl"]
    agent = tmp_path / "here" / "stages" / "dpo-1" / "model"
    with serving(TokenServer(agent, context=CONTEXT)) as server:
        command.succeeds("explore", "--recipe", tmp_path / "a.yaml", "--model", agent, "--out", played[0])
        more = recipe_of(tmp_path / "c.yaml", model, tmp_path / "there", **at(server))
        command.succeeds("explore", "--recipe", more, "--model", agent, "--out", played[1])
    pairs = zip(*map(read_trajectories, played), strict=True)
    assert all([t.action for t in a.turns] == [t.action for t in b.turns] for a, b in pairs)
    agents = build_results(tmp_path / "there")["splits"]["test"]["agents"]
    assert agents["eto-1"] == build_results(tmp_path / "here")["splits"]["test"]["agents"]["eto-1"]


def test_a_server_that_keeps_its_old_weights_never_acts(model, tmp_path, command):
    """It says that it took them; its answers show that it did not."""
    with serving(TokenServer(model, context=CONTEXT)) as server:
        server.deaf = True
        recipe = recipe_of(tmp_path / "a.yaml", model, tmp_path / "run", **at(server))
        says = ["still does not act with the weights", "same files"]
        command.fails("run", recipe, code=3, says=says)
    with TrajectoryStore(tmp_path / "run" / "trajectories.sqlite", read_only=True) as store:
        assert not store.get(Phase.evaluate("sft", "dev")) and not store.get(Phase.explore(1))


@pytest.mark.long
def test_a_server_lost_in_mid_exploration_costs_no_finished_episode(model, tmp_path, command):
    recipe_here = recipe_of(tmp_path / "a.yaml", model, tmp_path / "here")
    command.succeeds("run", recipe_here)
    with serving(TokenServer(model, context=CONTEXT)) as server:
        asked = 0

        def dies(handler: Any, body: Any) -> bool:
            nonlocal asked
            asked += 1
            return asked > BEFORE and closes(handler, body)

        server.fault = dies
        rollout = at(server) | {"slots": 4}
        recipe = recipe_of(tmp_path / "b.yaml", model, tmp_path / "there", **rollout)
        command.fails("run", recipe, code=3, says=["rollout.engine", "the same command"])
        kept = episodes(tmp_path / "there")
        server.fault = None
        command.succeeds("run", recipe)
    whole = {key: t for key, t in kept.items() if not t.failed}
    after = episodes(tmp_path / "there")
    assert 0 < len(whole) < 24, "some explored episodes were finished, others were not"
    assert after == episodes(tmp_path / "here") and not any(t.failed for t in after.values())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "large"}, ["no model 'large'; it lists tiny", "rollout.server.model"]),
        ({"urls": ["http://127.0.0.1:1"]}, ["127.0.0.1:1", "rollout.server.urls"]),
        ({"urls": ["127.0.0.1"]}, ["is not an address"]),
        ({"key_variable": "NOT_SET_HERE"}, ["NOT_SET_HERE", "holds no key"]),
    ],
)
def test_a_server_that_cannot_be_used_is_one_message(settings, says, model, tmp_path, command):
    with serving(TokenServer(model, context=CONTEXT)) as server:
        recipe = recipe_of(tmp_path / "a.yaml", model, tmp_path / "run", **at(server, **settings))
        out = tmp_path / "played.jsonl"
        error = command(*("explore", "--recipe", recipe, "--out", out))
    assert error.code in (2, 3) and "Traceback" not in error.error
    assert all(part in error.error for part in says), error.error


def test_a_context_shorter_than_the_recipes(model, tmp_path, command):
    with serving(TokenServer(model, context=256)) as server:
        recipe = recipe_of(tmp_path / "a.yaml", model, tmp_path / "run", **at(server))
        out = tmp_path / "played.jsonl"
        says = ["holds 256 tokens, and the recipe's 512", "--max-model-len 512"]
        command.fails("explore", "--recipe", recipe, "--out", out, says=says)


def test_a_server_must_be_named(model, tmp_path, command):
    recipe = recipe_of(tmp_path / "a.yaml", model, tmp_path / "run", engine="server")
    command.fails("run", recipe, says=["rollout.server.urls names none"])


@pytest.mark.vllm
@pytest.mark.timeout(3600)
def test_a_run_on_vllm_is_the_run_in_this_process(tmp_path, command):
    """With the real one; heads of 32, the smallest that vLLM has on a CPU."""
    from real_vllm import VLLM

    model = save_model(tmp_path / "model", hidden_size=128)
    command.succeeds("run", recipe_of(tmp_path / "a.yaml", model, tmp_path / "here"))
    on_vllm = {"engine": "vllm", "vllm": VLLM}
    command.succeeds("run", recipe_of(tmp_path / "b.yaml", model, tmp_path / "there", **on_vllm))
    here, there = episodes(tmp_path / "here"), episodes(tmp_path / "there")
    assert here == there and len(here) > 24
    assert (tmp_path / "there" / "engine" / "vllm-0.log").stat().st_size
