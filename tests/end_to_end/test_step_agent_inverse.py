"""StepAgent-Inverse from recipe to report: a discriminator tells the agent from the expert, and teaches it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from credit_runs import CLONING, PREFERRING, check_learnt, context, pairs_of, played, write_recipe

from eto.credit.discriminator import step_reward
from eto.data.files import read_json
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.experiment.run_records import read_done

SAMPLES = 4
DISCRIMINATOR = {"epochs": 12, "learning_rate": 1e-3, "batch_size": 4, "schedule": "constant"}
METHOD: dict[str, Any] = {
    "name": "step_agent",
    "reward": "inverse",
    "sft": CLONING | {"epochs": 3},
    "explore": {"samples": SAMPLES, "temperature": 1.0},
    "discriminator": DISCRIMINATOR,
    "dpo": PREFERRING | {"epochs": 2},
    "guard": {"dev_every_epoch": False},
}


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def test_own_actions_are_preferred_by_the_discriminator(tmp_path: Path, model: Path, command) -> None:
    run = tmp_path / "run"
    path = write_recipe(tmp_path / "recipe.yaml", model, run, METHOD)
    out = command.succeeds("run", path)
    print(out)
    stage = run / "stages" / "discriminator-1"
    print(read_done(stage / "DONE"))
    judged = read_json(stage / "judged.json")["actions"]
    for row in judged[:40]: print(row)
    print(len(pairs_of(run)))
    assert 0
