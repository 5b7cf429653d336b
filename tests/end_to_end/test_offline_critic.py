"""The offline critic from recipe to report on a small game: no episodes after the first exploration."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import yaml
from coin_game import RECIPE

from eto.data.store import TrajectoryStore
from eto.evaluation import build_results


def test_a_run_over_stored_episodes(tmp_path: Path, model: Path, command) -> None:
    values = deepcopy(dict(RECIPE))
    method = {"name": "offline_critic", "sft": RECIPE["method"]["sft"] | {"epochs": 2}}
    method |= {"explore": {"samples": 2, "temperature": 1.0}, "critic": {"learning_rate": 1e-3}}
    method["update"] = {"learning_rate": 1e-4}
    values |= {"run_directory": str(tmp_path / "run"), "method": method}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 12, "dev_per_kind": 4, "test_per_kind": 4}
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    command.succeeds("run", path)
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "updated-1", "updated-2"}
    with TrajectoryStore(run / "trajectories.sqlite", create=False) as store:
        assert [phase.text for phase in store.phases() if phase.purpose == "explore"] == ["explore/1"]
    with np.load(run / "stages" / "critic-1" / "advantages.npz") as kept:
        gained = np.concatenate([kept[name] for name in kept.files])
        assert len(kept.files) == 12 * 3, "each expert and both own episodes"
    assert gained.min() < 0 < gained.max()
