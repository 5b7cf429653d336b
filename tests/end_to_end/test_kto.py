"""KTO from recipe to report on a small game: successes and failures, no pairs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import yaml
from coin_game import RECIPE

from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.experiment.run_records import read_done
from eto.types import Phase


def test_successes_and_failures_are_separated(tmp_path: Path, model: Path, command) -> None:
    values = deepcopy(dict(RECIPE))
    method = {"name": "kto", "sft": RECIPE["method"]["sft"] | {"epochs": 2}, "least_reward": 0.9}
    method |= {"explore": {"samples": 2, "temperature": 1.0}, "kto": {"learning_rate": 1e-4}}
    values |= {"run_directory": str(tmp_path / "run"), "method": method}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 12, "dev_per_kind": 4, "test_per_kind": 4}
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    command.succeeds("run", path)
    with TrajectoryStore(run / "trajectories.sqlite", create=False) as store:
        explored = store.get(Phase.explore(1))
    lost = [episode for episode in explored if episode.reward < 0.9]
    noted = read_done(run / "stages" / "kto" / "DONE")["metrics"]
    assert (noted["desirable"], noted["undesirable"]) == (12 + len(explored) - len(lost), len(lost))
    assert lost and set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "kto"}
