"""StepAgent-Inverse from recipe to report: a discriminator tells the agent from the expert."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from credit_runs import (
    CLONING,
    PREFERRING,
    PowerCut,
    check_learnt,
    context,
    interrupted_at,
    pairs_of,
    played,
    write_recipe,
)

from eto.credit.discriminator import step_reward
from eto.data.files import read_json, write_json
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.experiment.fork import first_stage
from eto.experiment.recipe import load_recipe
from eto.experiment.run_records import read_done
from eto.methods import declared_stages

SAMPLES = 4
STEPS = 72
"""Of the discriminator: 13 of 16 experts, in batches of 4."""
METHOD: dict[str, Any] = {
    "name": "step_agent",
    "reward": "inverse",
    "sft": CLONING | {"epochs": 12, "batch_size": 8},
    "explore": {"samples": SAMPLES, "temperature": 1.0},
    "discriminator": {"epochs": 18, "learning_rate": 1e-3, "batch_size": 4, "schedule": "constant"},
    "dpo": PREFERRING | {"epochs": 2},
    "guard": {"dev_every_epoch": False},
}


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def test_own_actions_are_ordered_by_the_discriminator(
    tmp_path: Path, model: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    path = write_recipe(tmp_path / "recipe.yaml", model, run, METHOD)
    with monkeypatch.context() as patch:
        interrupted_at(patch, "discriminator-1", 40)
        with pytest.raises(PowerCut):
            command("run", path, "checkpoint_seconds=1")
    assert not (run / "stages" / "contrast-1").exists()
    out = command.succeeds("run", path)

    # The discriminator's training goes on where it was, and tells agent from expert where it has not learnt.
    resumed = int(re.search(rf"discriminator-1 +(\d+)/{STEPS} ", out)[1])
    assert 0 < resumed <= 40
    stage = run / "stages" / "discriminator-1"
    judged = {
        (row["task"], row["turn"], row["action"]): row for row in read_json(stage / "judged.json")["actions"]
    }
    held_out = {task for (task, _, _), row in judged.items() if row["held_out"]}
    assert len(held_out) == 3 and not (stage / "state").exists()
    assert read_done(stage / "DONE")["metrics"]["accuracy"] > 0.6

    # Pairs are of the agent's own actions in one state, by the discriminator's reward.
    episodes, pairs = played(run, "continue/inspect-1"), pairs_of(run)
    assert len(episodes) == 16 * 4 * SAMPLES and pairs
    tried = {(each.task.id, len(each.turns) - 1, each.turns[-1].action) for each in episodes}
    for pair in pairs:
        at = context(pair)
        sides = [(pair.task.id, at, side.turns[at].action) for side in (pair.chosen, pair.rejected)]
        assert set(sides) <= tried and pair.shared_turns == at
        chosen, rejected = (step_reward(judged[side]["logit"]) for side in sides)
        assert chosen > rejected + 0.5
        worst = min(step_reward(row["logit"]) for key, row in judged.items() if key[:2] == sides[0][:2])
        assert rejected == worst
    right = sum(pair.chosen.actions[-1].startswith("move ") for pair in pairs)
    assert right > len(pairs) / 2, "the discriminator prefers what the expert says"
    check_learnt(run)
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "step-agent-1"}

    recipe = load_recipe(path)
    declared = [stage.name for stage in declared_stages(recipe.method)]
    assert declared == ["sft", "dev-sft", "inspect-1", "discriminator-1", "contrast-1", "dpo-1"]
    assert {each.name for each in (run / "stages").iterdir()} == {"expert", *declared, "test"}
    decided = {
        "reward": "inspect-1",
        "explore.samples": "inspect-1",
        "discriminator.epochs": "discriminator-1",
    }
    for field, name in (decided | {"min_gap": "contrast-1", "dpo.beta": "dpo-1"}).items():
        assert first_stage(f"method.{field}", recipe) == name

    # Judgements of other actions than the stored ones are never used.
    kept = read_json(stage / "judged.json")
    write_json(stage / "judged.json", kept | {"made_from": "others"})
    for later in ("contrast-1", "dpo-1", "test"):
        shutil.rmtree(run / "stages" / later)
    command.fails("run", path, says=["made from other episodes", "judged.json", "delete"])


@pytest.mark.parametrize(
    ("explore", "discriminator", "says"),
    [
        ({"samples": 2, "temperature": 0.05}, {}, "the agent acts as the expert in all held-out states"),
        ({"samples": 2, "temperature": 1.2}, {"learning_rate": 1e-9}, "less than least_accuracy"),
    ],
    ids=["no difference", "none that it can tell"],
)
def test_without_a_difference_the_rounds_end(
    tmp_path: Path, model: Path, command, explore, discriminator, says
) -> None:
    run = tmp_path / "run"
    method = METHOD | {"iterations": 2, "explore": explore}
    method |= {
        "discriminator": METHOD["discriminator"] | {"epochs": 1, "least_accuracy": 0.99} | discriminator
    }
    path = write_recipe(tmp_path / "recipe.yaml", model, run, method)
    out = command.succeeds("run", path)
    assert "round 1: " in out and says in " ".join(out.split())
    assert not (run / "stages" / "dpo-1").exists() and not (run / "stages" / "inspect-2").exists()
    assert build_results(run)["shipped"]["agent"] == "sft"


def test_one_action_a_state_is_refused(tmp_path: Path, model: Path, command) -> None:
    method = METHOD | {"explore": {"samples": 1, "temperature": 1.0}}
    path = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run", method)
    command.fails("run", path, says=["compares actions", "method.explore.samples"])


def test_settings_of_the_inverse_alone_are_refused_without_it(tmp_path: Path, model: Path, command) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run", METHOD | {"reward": "implicit"})
    command.fails("run", path, "method.min_gap=1.0", says=["method.min_gap", "method.reward to inverse"])
