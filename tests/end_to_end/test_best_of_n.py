"""Best-of-N on a small game: the best of each test task counts, apart from the agents."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from coin_game import RECIPE

from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.experiment.run_records import read_done
from eto.methods.best_of_n import best_rewards
from eto.types import Phase


def test_the_best_counts_apart(tmp_path: Path, model: Path, command) -> None:
    values = deepcopy(dict(RECIPE))
    method = {"name": "best_of_n", "sft": RECIPE["method"]["sft"] | {"epochs": 5}}
    method["explore"] = {"samples": 3, "temperature": 1.0}
    values |= {"run_directory": str(tmp_path / "run"), "method": method}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 48, "dev_per_kind": 4, "test_per_kind": 6}
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    command.succeeds("run", path)
    with TrajectoryStore(run / "trajectories.sqlite", create=False) as store:
        played = store.get(Phase.continued("best-of-n"))
    best = best_rewards(played)
    assert len(played) == 3 * len(best) and len({t.reward for t in played}) > 1
    noted = read_done(run / "stages" / "best-of-n" / "DONE")["metrics"]
    assert noted["reward"] == pytest.approx(sum(best.values()) / len(best))
    assert noted["reward"] > sum(t.reward for t in played) / len(played)
    assert list(build_results(run)["splits"]["test"]["agents"]) == ["sft"]
