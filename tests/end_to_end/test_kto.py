"""KTO from recipe to report on a small game: successes and failures, no pairs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import yaml
from coin_game import RECIPE

from eto.data.files import read_rows
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
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        explored = store.get(Phase.explore(1))
    lost = [episode for episode in explored if episode.reward < 0.9]
    noted = read_done(run / "stages" / "kto" / "DONE")["metrics"]
    assert (noted["desirable"], noted["undesirable"]) == (12 + len(explored) - len(lost), len(lost))
    assert lost and set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "kto"}


def test_the_guard_stops_and_the_best_checkpoint_returns(tmp_path: Path, model: Path, command) -> None:
    """The same recipe with a bound that any step exceeds, and dev checks after each epoch."""
    values = deepcopy(dict(RECIPE))
    method = {"name": "kto", "sft": RECIPE["method"]["sft"] | {"epochs": 2}, "least_reward": 0.9}
    method |= {"explore": {"samples": 2, "temperature": 1.0}}
    method |= {"kto": {"learning_rate": 3e-3, "epochs": 3, "batch_size": 8, "schedule": "constant"}}
    method |= {"guard": {"dev_every_epoch": True, "max_drift": 1e-3}}
    values |= {"run_directory": str(tmp_path / "run"), "method": method}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 8, "dev_per_kind": 4, "test_per_kind": 2}
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    said = " ".join(command.succeeds("run", path).split())
    noted = read_done(run / "stages" / "kto" / "DONE")["metrics"]
    assert "max_drift is 0.001" in noted["guard"] and noted["best_epoch"] == 1
    assert f"kto: dev reward {noted['dev_reward']:.3f}" in said and "training was stopped" in said
    rows = [row for row in read_rows(run / "metrics.jsonl") if row["stage"] == "kto"]
    assert len(rows) < noted["desirable"] + noted["undesirable"]
    results = build_results(run)
    assert set(results["splits"]["dev"]["agents"]) == {"sft", "kto/epoch-1"}
    assert results["guard"] == {"kto": noted["guard"]}
    values["method"]["guard"] = {"dev_every_epoch": True, "max_drift": None}
    values["run_directory"] = str(tmp_path / "free")
    path.write_text(yaml.safe_dump(values))
    command.succeeds("run", path, "--from", run)
    dev = set(build_results(tmp_path / "free")["splits"]["dev"]["agents"])
    assert dev == {"sft", "kto/epoch-1", "kto/epoch-2", "kto/epoch-3"}
