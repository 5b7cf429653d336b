"""The offline critic from recipe to report on a small game: no episodes after the first exploration."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import yaml
from coin_game import RECIPE
from credit_runs import PowerCut, interrupted_at

from eto.data.arrays import MARK
from eto.data.formats import read_trajectories
from eto.data.store import TrajectoryStore
from eto.environments import SUITES
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
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        assert [phase.text for phase in store.phases() if phase.purpose == "explore"] == ["explore/1"]
    with np.load(run / "stages" / "critic-1" / "advantages.npz") as kept:
        gained = np.concatenate([kept[name] for name in kept.files if name != MARK])
        assert len(kept.files) == 12 * 3 + 1, "each expert and both own episodes"
    assert gained.min() < 0 < gained.max()


def test_a_later_start_has_each_episodes_own_numbers(
    tmp_path: Path, model: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks whose order is not that of their ids: what one start keeps of the episodes suits the next one."""
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))
    values = deepcopy(dict(RECIPE))
    method = {"name": "offline_critic", "iterations": 1, "sft": {"epochs": 1, "learning_rate": 1e-3}}
    values |= {"run_directory": str(tmp_path / "run"), "method": method}
    values["environment"] = {"name": "corridor", "workers": 1}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 12, "dev_per_kind": 2, "test_per_kind": 2}
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    with monkeypatch.context() as patch:
        interrupted_at(patch, "updated-1", 1)
        with pytest.raises(PowerCut):
            command("run", path)
    ids = [each.task.id for each in read_trajectories(run / "stages" / "expert" / "expert.jsonl")]
    assert ids != sorted(ids)
    command.succeeds("run", path)

    for later in ("updated-1", "dev-updated-1", "test"):
        shutil.rmtree(run / "stages" / later)
    with np.load(run / "stages" / "critic-1" / "advantages.npz") as kept:
        others = dict(kept) | {MARK: np.array("others")}
    np.savez(run / "stages" / "critic-1" / "advantages.npz", **others)
    command.fails("run", path, says=["made from other episodes", "advantages.npz", "delete"])
