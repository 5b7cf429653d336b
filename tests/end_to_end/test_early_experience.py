"""Early Experience from recipe to report on a small game: one own action a state, and its answer learnt."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import yaml
from coin_game import RECIPE

from eto.data.formats import read_trajectories
from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.training.foresight import last_observation
from eto.training.learner import load_learner
from eto.types import Phase


def test_a_run_learns_what_its_actions_lead_to(tmp_path: Path, model: Path, command) -> None:
    values = deepcopy(dict(RECIPE))
    cloning = RECIPE["method"]["sft"] | {"epochs": 3}
    method = {"name": "early_experience", "sft": cloning, "world": cloning | {"epochs": 3}}
    values |= {"run_directory": str(tmp_path / "run")}
    values["method"] = method | {"explore": {"samples": 2, "temperature": 1.0}}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 12, "dev_per_kind": 4, "test_per_kind": 4}
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    command.succeeds("run", path)

    experts = {t.task.id: t for t in read_trajectories(run / "stages" / "expert" / "expert.jsonl")}
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        tried = store.get(Phase.continued("branch-own"))
    assert len(tried) == 2 * sum(len(expert.turns) for expert in experts.values())
    for each in tried:
        before = experts[each.task.id].turns[: len(each.turns) - 1]
        assert [turn.said for turn in each.turns[:-1]] == [turn.said for turn in before], "one own turn"
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "early-experience"}

    learner = load_learner(model, dtype="float32")
    examples = [example for each in tried if (example := last_observation(learner, each)) is not None]
    assert examples
    trees = [example.tree for example in examples]

    def likely(agent) -> float:
        scores = [leaf for [leaf] in agent.score(trees)]
        return sum(float(leaf.sum()) for leaf in scores) / sum(map(len, scores))

    first, cloned = likely(learner), likely(load_learner(run / "stages" / "sft" / "model", dtype="float32"))
    world = likely(load_learner(run / "stages" / "world" / "model", dtype="float32"))
    assert world > max(first, cloned) + 0.3, "the answers are foreseen"
