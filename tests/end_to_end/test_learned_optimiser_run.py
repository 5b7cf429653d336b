"""A run whose adapters are trained with the learned optimiser, and recipes that cannot have one."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from coin_game import RECIPE

from eto.data.files import read_rows
from eto.experiment.run_records import read_done
from eto.training.learned_optimiser import UpdateRule, save_rule


def recipe(tmp_path: Path, model: Path, lora: bool = True, **changes: Any) -> Path:
    values = deepcopy(dict(RECIPE))
    sft = {"epochs": 3, "learning_rate": 3e-3, "batch_size": 12, "optimiser": "learned", **changes}
    values |= {"run_directory": str(tmp_path / "run"), "method": {"name": "sft", "sft": sft}}
    values["tasks"] = {"train_per_kind": 24, "dev_per_kind": 2, "test_per_kind": 2}
    values["model"] |= {"path": str(model), "lora": {"rank": 8, "alpha": 16.0} if lora else None}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_run_with_the_learned_optimiser(tmp_path: Path, model: Path, command) -> None:
    command.succeeds("run", recipe(tmp_path, model))
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if row["stage"] == "sft"]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 6 and np.mean(losses[-2:]) < 0.9 * losses[0]
    assert read_done(tmp_path / "run" / "stages" / "test" / "DONE")["metrics"]["shipped"] == "sft"


def test_a_run_of_all_weights_is_refused(tmp_path: Path, model: Path, command) -> None:
    says = ["method.sft.optimiser: learned trains adapters only", "model.lora"]
    command.fails("run", recipe(tmp_path, model, lora=False), says=says)
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_not_there_is_told_before_the_run_begins(tmp_path: Path, model: Path, command) -> None:
    file = tmp_path / "none.safetensors"
    path = recipe(tmp_path, model, optimiser_file=str(file))
    command.fails("run", path, says=[str(file), "is not a learned optimiser", "meta_training"])
    assert not (tmp_path / "run").exists()


def test_a_file_of_the_users_is_taken(tmp_path: Path, model: Path, command) -> None:
    """A rule that moves nothing: the loss stays."""
    rule = UpdateRule()
    with torch.no_grad():
        rule.log_first.bias.fill_(-50.0)
    save_rule(rule, tmp_path / "rule.safetensors")
    file = str(tmp_path / "rule.safetensors")
    command.succeeds("run", recipe(tmp_path, model, optimiser_file=file, batch_size=24))
    losses = [row["loss"] for row in read_rows(tmp_path / "run" / "metrics.jsonl") if row["stage"] == "sft"]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)
