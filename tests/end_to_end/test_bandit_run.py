"""A tiny model from UCB's episodes through cloning to ETO on a short bandit, in each form of context."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from coin_game import save_model

from benchmarks.bandits import ORACLES, of_run, report
from eto.data.formats import read_pairs, read_trajectories
from eto.data.store import TrajectoryStore
from eto.environments import load_suite
from eto.environments.bandit.games import played
from eto.environments.bandit.measured import measured
from eto.environments.bandit.oracles import Ucb
from eto.evaluation import build_results
from eto.rollout.experts import collect_experts
from eto.types import Phase

OPTIONS: dict[str, Any] = {"kinds": ["bernoulli-easy-3-video"], "horizon": 6}
RECIPE: dict[str, Any] = {
    "name": "bandit",
    "model": {"dtype": "float32"},
    "environment": {"name": "bandit", "workers": 1},
    "tasks": {"train_per_kind": 24, "dev_per_kind": 6, "test_per_kind": 12},
    "rollout": {"slots": 16, "max_action_tokens": 4},
    "method": {
        "name": "eto",
        "iterations": 1,
        "sft": {"epochs": 4, "learning_rate": 2e-3, "batch_size": 8, "schedule": "constant"},
        "explore": {"temperature": 1.0},
        "dpo": {"epochs": 1, "learning_rate": 1e-4, "batch_size": 8, "sft_weight": 0.1},
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    suite = load_suite("bandit", context="guided", **OPTIONS)
    [expert] = collect_experts(suite, suite.tasks("train")[:1], workers=0)
    said = [message.content for message in expert.messages] + [turn.observation for turn in expert.turns]
    return save_model(tmp_path_factory.mktemp("model"), "\n".join(said), max_position_embeddings=2048)


def write_recipe(folder: Path, model: Path, context: str, **method: Any) -> tuple[Path, Path]:
    values, run = deepcopy(RECIPE), folder / "run"
    values["run_directory"], values["model"]["path"] = str(run), str(model)
    values["environment"]["options"] = OPTIONS | {"context": context}
    values["method"] = method or values["method"]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path, run


@pytest.mark.parametrize("context", ["raw", "guided"])
def test_from_ucb_to_eto(tmp_path: Path, model: Path, command, context: str) -> None:
    path, run = write_recipe(tmp_path, model, context)
    command.succeeds("run", path)
    suite = load_suite("bandit", context=context, **OPTIONS)

    experts = read_trajectories(run / "stages" / "expert" / "expert.jsonl")
    assert len(experts) == 24, "an expert is kept whatever its luck"
    for expert in experts:
        bandit = suite.bandit(expert.task)
        pulls = played(bandit, Ucb(3))
        assert [suite.arm(expert.task, action) for action in expert.actions] == pulls
        assert expert.reward == pytest.approx(bandit.reward(pulls))

    pairs = read_pairs(run / "stages" / "contrast-1" / "pairs.jsonl")
    assert pairs
    for pair in pairs:
        chosen, rejected = (
            measured(suite, [side])[pair.task.kind].regret[0] for side in (pair.chosen, pair.rejected)
        )
        # A rejected side is cut, but no bandit ends before its horizon: both have all pulls.
        assert len(chosen) == len(rejected) == 6 and chosen[-1] < rejected[-1]

    results = build_results(run)["splits"]["test"]["agents"]
    assert set(results) == {"sft", "eto-1"}
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        for agent in results:
            episodes = store.get(Phase.evaluate(agent, "test"))
            [found] = measured(suite, episodes).values()
            assert found.regret.shape == (12, 6) and found.invalid.mean() < 0.2, "it learnt to name arms"
            assert found.reward.mean() == pytest.approx(results[agent]["reward"]["mean"])
            assert found.best.mean() == pytest.approx(found.reward.mean()), "with equal arms but one"

    beside = of_run(run, [])
    assert list(beside) == ["eto-1", "sft", *ORACLES] or list(beside) == ["sft", "eto-1", *ORACLES]
    figures, rates = report(beside)
    assert len(figures.splitlines()) == 2 + len(beside) and "| UCB, LinUCB | without users |" in rates


def test_oracle_fine_tuning_alone(tmp_path: Path, model: Path, command) -> None:
    cloning = RECIPE["method"]["sft"] | {"epochs": 8}
    path, run = write_recipe(tmp_path, model, "summary", name="sft", sft=cloning)
    command.succeeds("run", path)
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft"}
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        episodes = store.get(Phase.evaluate("sft", "test"))
    suite = load_suite("bandit", context="summary", **OPTIONS)
    [found] = measured(suite, episodes).values()
    assert (found.least > 0).mean() > 0.8, "UCB tries each arm, and so does its clone"
