"""A method of one's own, defined here alone: run, stopped, resumed, forked and reported."""

from __future__ import annotations

import gc
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from coin_game import RECIPE

from eto import steps
from eto.data.files import read_json, write_json
from eto.experiment.compose import policy_of
from eto.experiment.lab import Lab
from eto.experiment.run_records import read_done
from eto.methods import METHODS
from eto.protocols import Method, Outcome, Stage
from eto.settings import MethodSettings, SftSettings
from eto.training.learner import Learner


class FewSettings(MethodSettings):
    """Cloning, and cloning of a few."""

    name: Literal["few"] = "few"
    """The method."""
    sft: SftSettings = SftSettings()
    """Cloning."""
    keep: int = 4
    """Experts that the second agent is cloned from."""


def train(lab: Lab, settings: FewSettings) -> Outcome:
    base = steps.clone(lab, lab.cloned, settings.sft, agent="base")
    rewards = {base: steps.evaluate(lab, base)}
    with lab.run.stage("pick") as stage:
        if not stage.done:
            shortest = sorted(lab.cloned, key=lambda t: (len(t.turns), t.task.id))[: settings.keep]
            write_json(stage.directory / "ids.json", [t.task.id for t in shortest])
            stage.note(kept=len(shortest))
        ids = read_json(stage.directory / "ids.json")
    few = [t for t in lab.cloned if t.task.id in ids]
    agent = steps.clone(lab, few, settings.sft, agent="few", afresh=True)
    rewards[agent] = steps.evaluate(lab, agent)
    return steps.select(lab, rewards)


def stages(settings: FewSettings) -> list[Stage]:
    return [
        Stage.clone("base", "sft"),
        Stage.dev("base"),
        Stage("pick", ("keep",)),
        Stage.clone("few"),
        Stage.dev("few"),
    ]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "few", Method("few", "clone a few", FewSettings, train, stages))


def write(path: Path, model: Path, run: Path, **settings: Any) -> Path:
    values = deepcopy(dict(RECIPE))
    sft = {**values["method"]["sft"], "epochs": 1}
    values |= {"run_directory": str(run), "method": {"name": "few", "sft": sft, **settings}}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 24, "dev_per_kind": 8, "test_per_kind": 8}
    path.write_text(yaml.safe_dump(values))
    return path


def done(run: Path, stage: str) -> dict[str, Any]:
    return read_done(run / "stages" / stage / "DONE")


def test_a_method_of_ones_own(tmp_path: Path, model: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    run, fork = tmp_path / "run", tmp_path / "fork"
    recipe = write(tmp_path / "recipe.yaml", model, run)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.write_json", stopped)
        assert command("run", recipe).code == 130
    assert not (run / "stages" / "pick" / "DONE").exists()
    begun = done(run, "base")

    def load(recipe: Any) -> Learner:
        alive.append(sum(type(thing) is Learner for thing in gc.get_objects()))
        return policy_of(recipe)

    alive: list[int] = []
    monkeypatch.setattr("eto.experiment.lab.policy_of", load)
    printed = command.succeeds("run", recipe)
    assert alive == [0], "a model is held while the next one is loaded"
    shipped = read_json(run / "results.json")["shipped"]["agent"]
    assert f"--model {run / 'stages' / shipped / 'model'}" in printed
    assert done(run, "base") == begun, "a finished stage was made again"
    assert "agent minus base" in (run / "report.md").read_text()
    assert done(run, "few")["metrics"]["trajectories"] == done(run, "pick")["metrics"]["kept"] == 4
    assert done(run, "few")["agent"] == "few"
    agents = read_json(run / "results.json")["splits"]["test"]["agents"]
    assert list(agents) == ["base", "few"] and "difference" in agents["few"]

    changed = write(tmp_path / "fork.yaml", model, fork, keep=6)
    printed = command.succeeds("run", changed, "--from", run)
    assert f"taken from {run}: expert, base, dev-base\n" in printed
    assert done(fork, "base") == begun and done(fork, "few")["metrics"]["trajectories"] == 6

    command.fails("run", changed, "method.kep=5", says=["method.kep", "method.keep"])
