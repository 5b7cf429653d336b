"""A real run on a real game: the cloned agent has learnt, and every figure is there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from coin_game import write_recipe

from eto.data.files import read_rows
from eto.data.formats import read_pairs, read_trajectories
from eto.evaluation.statistics import mean_interval, paired_difference


@pytest.mark.timeout(240)
def test_an_agent_learns_a_game(tmp_path: Path, model: Path, command, painted) -> None:
    recipe, run = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run"), tmp_path / "run"
    command.succeeds("evaluate", "--recipe", recipe, "--split", "test", "--out", tmp_path / "untrained.jsonl")
    untrained = {t.task.id: t.reward for t in read_trajectories(tmp_path / "untrained.jsonl")}
    printed = command.succeeds("run", recipe)

    results = json.loads((run / "results.json").read_text())
    agents = results["splits"]["test"]["agents"]
    assert set(agents) == {"sft", "eto-1"}
    assert mean_interval(list(untrained.values())).mean < 0.1
    # Always taking the coin, without looking for it, comes to one half.
    assert agents["sft"]["reward"]["mean"] > 0.55
    cloned = {t.task.id: t.reward for t in episodes(run, "evaluate/sft/test")}
    assert paired_difference(cloned, untrained).low > 0.3
    assert mean_interval(list(cloned.values())).mean == pytest.approx(agents["sft"]["reward"]["mean"])

    check_round(run, results)
    check_figures(results)
    for agent in agents.values():
        assert f"{agent['reward']['mean']:.3f}" in printed
    for name in ("report.md", "curve.png"):
        assert (run / name).stat().st_size > 500


def check_round(run: Path, results: dict) -> None:
    """The round trained on real pairs: an expert's success against the agent's own failure."""
    pairs = read_pairs(run / "stages" / "contrast-1" / "pairs.jsonl")
    assert pairs and results["pairs"]["1"]["pairs"] == len(pairs)
    explored = {t.task.id: t for t in episodes(run, "explore/1")}
    for pair in pairs:
        assert pair.chosen.source == "expert" and pair.chosen.reward > pair.rejected.reward
        assert explored[pair.task.id].actions[: len(pair.rejected.turns)] == pair.rejected.actions
    steps = [row for row in read_rows(run / "metrics.jsonl") if row["stage"] == "dpo-1"]
    assert len(steps) == 2 * math.ceil(len(pairs) / 4)
    assert steps[0]["margin"] == pytest.approx(0.0, abs=1e-4)  # the policy is still its own reference
    assert steps[-1]["margin"] > 0.01 and steps[-1]["rejected_drift"] < steps[-1]["chosen_drift"]


def check_figures(results: dict) -> None:
    """results.json holds every figure of the table, and each is a number with its interval."""
    for split, count in (("dev", 16), ("test", 32)):
        for agent, figures in results["splits"][split]["agents"].items():
            assert figures["tasks"] == count and figures["failed"] == 0
            for name in ("reward", "final_reward", "success", "turns"):
                assert figures[name]["low"] <= figures[name]["mean"] <= figures[name]["high"]
            assert figures["kinds"]["coin"]["tasks"] == count
            if agent != "sft":
                assert set(figures["difference"]) >= {"reward", "success"}
    ships = results["splits"]["dev"]["agents"]
    best = max(
        figures["reward"]["mean"] for agent, figures in ships.items() if agent.startswith("dpo-1/epoch-")
    )
    better = best > ships["sft"]["reward"]["mean"]
    assert results["shipped"]["agent"] == ("eto-1" if better else "sft")
    assert results["shipped"]["reason"]
    done = [stage["stage"] for stage in results["stages"]]
    assert done == ["expert", "sft", "dev-sft", "explore-1", "contrast-1", "dpo-1", "test"]
    assert all(stage["seconds"] >= 0 for stage in results["stages"]) and results["seconds"] > 0
    assert results["explored"]["1"]["tasks"] == 48


def episodes(run: Path, phase: str) -> list:
    from eto.data.store import TrajectoryStore
    from eto.types import Phase

    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        return store.get(Phase.parse(phase))
