"""StepAgent from recipe to report on a small game: the expert's action over the agent's where they differ."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import yaml
from coin_game import RECIPE

from eto.data.formats import read_pairs, read_trajectories
from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.types import Phase


def test_single_actions_are_reflected(tmp_path: Path, model: Path, command) -> None:
    values = deepcopy(dict(RECIPE))
    method = {"name": "step_agent", "sft": RECIPE["method"]["sft"] | {"epochs": 2}}
    method["dpo"] = {"epochs": 1, "learning_rate": 1e-4, "batch_size": 8, "sft_weight": 1.0}
    values |= {"run_directory": str(tmp_path / "run"), "method": method}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 12, "dev_per_kind": 4, "test_per_kind": 4}
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    command.succeeds("run", path)

    experts = {t.task.id: t for t in read_trajectories(run / "stages" / "expert" / "expert.jsonl")}
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        inspected = store.get(Phase.continued("inspect-1"))
    differing = [t for t in inspected if t.turns[-1].said != experts[t.task.id].turns[len(t.turns) - 1].said]
    pairs = read_pairs(run / "stages" / "contrast-1" / "pairs.jsonl")
    assert 0 < len(pairs) <= len(differing)
    for pair in pairs:
        at = len(pair.chosen.turns) - 1
        assert pair.kind == "action" and len(pair.rejected.turns) == at + 1
        assert (
            pair.chosen.turns[at].said == experts[pair.task.id].turns[at].said != pair.rejected.turns[at].said
        )
        assert [turn.loss for turn in pair.chosen.turns] == [False] * at + [True]
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "step-agent-1"}
