"""Runs of methods that value steps, on the game `corridor`."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from coin_game import RECIPE

from eto.data.files import read_rows
from eto.data.formats import read_pairs
from eto.data.store import TrajectoryStore
from eto.experiment.lab import Lab
from eto.types import Pair, Phase, Trajectory

CLONING = {"epochs": 5, "learning_rate": 2e-3, "batch_size": 12, "schedule": "constant"}
PREFERRING = {"epochs": 6, "learning_rate": 1e-3, "batch_size": 4, "sft_weight": 0.1}


def write_recipe(path: Path, model: Path, run: Path, method: dict[str, Any], **options: Any) -> Path:
    """A recipe of `method` on the corridor with `options`, as a file."""
    values = deepcopy(dict(RECIPE))
    values |= {
        "run_directory": str(run),
        "environment": {"name": "corridor", "options": options, "workers": 1},
        "tasks": {"train_per_kind": 16, "dev_per_kind": 8, "test_per_kind": 4},
        "method": {"sft": CLONING, "dpo": PREFERRING, **method},
    }
    values["model"]["path"] = str(model)
    path.write_text(yaml.safe_dump(values))
    return path


def played(run: Path, phase: str) -> list[Trajectory]:
    """Episodes of a phase of a run's store."""
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        return store.get(Phase.parse(phase))


def pairs_of(run: Path, iteration: int = 1) -> list[Pair]:
    """The pairs of a round."""
    return read_pairs(run / "stages" / f"contrast-{iteration}" / "pairs.jsonl")


def context(pair: Pair) -> int:
    """Turns before those that are contrasted."""
    return next(at for at, turn in enumerate(pair.chosen.turns) if turn.loss)


def check_learnt(run: Path, stage: str = "dpo-1") -> None:
    """A stage of preference training moved probability from the rejected sides to the chosen ones."""
    steps = [row for row in read_rows(run / "metrics.jsonl") if row["stage"] == stage]
    assert steps[-1]["margin"] > steps[0]["margin"] + 0.01
    assert steps[-1]["rejected_drift"] < steps[-1]["chosen_drift"]


class PowerCut(BaseException):
    """The end of a run that nothing announces."""


def interrupted_at(patch: pytest.MonkeyPatch, stage: str, number: int) -> None:
    """A run ends without warning, by a `PowerCut`, after a step of a stage has been logged."""
    log = Lab.log

    def logs(lab: Lab, name: str, step: Any) -> None:
        log(lab, name, step)
        if (name, step.step) == (stage, number):
            raise PowerCut

    patch.setattr(Lab, "log", logs)
