"""`eto sweep`: variants differ from the recipe in one value, share what is equal, and play no test task."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from coin_game import RECIPE

from eto.data.files import read_json
from eto.data.store import TrajectoryStore
from eto.environments import SUITES
from eto.evaluation.statistics import by_task, paired_difference, reward
from eto.experiment.recipe import load_recipe
from eto.experiment.run_records import read_manifest
from eto.types import Phase


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


@pytest.fixture
def path(tmp_path: Path, model: Path) -> Path:
    values = deepcopy(dict(RECIPE)) | {"name": "varied"}
    values["environment"] = {"name": "corridor", "options": {"rooms": 1}, "workers": 1}
    values["tasks"] = {"train_per_kind": 12, "dev_per_kind": 4, "test_per_kind": 4}
    cloning = RECIPE["method"]["sft"] | {"epochs": 12, "batch_size": 2}
    explore = {"samples": 2, "temperature": 1.0}
    values["method"] = {"name": "rft", "sft": cloning, "least_reward": 0.5, "explore": explore}
    values["model"]["path"] = str(model)
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def dev(run: Path, agent: str) -> dict[str, float]:
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        assert not [phase for phase in store.phases() if phase.split == "test"], "no test task is played"
        return by_task(store.get(Phase.evaluate(agent, "dev")), reward)


def test_one_setting_at_a_time(tmp_path: Path, path: Path, command) -> None:
    out = tmp_path / "out"
    arguments = ["sweep", path, "--vary", "method.least_reward=0.7", "--vary", "method.explore.samples=3"]
    command.succeeds(*arguments, "--out", out)
    base = out / "base" / "seed-0"
    least, samples = (out / f"method.{name}" / "seed-0" for name in ("least_reward-0.7", "explore.samples-3"))
    assert load_recipe(least / "recipe.yaml").method.least_reward == 0.7
    assert load_recipe(samples / "recipe.yaml").method.least_reward == 0.5
    assert read_manifest(least)["taken_from"]["stages"][-1] == "explore-1"
    assert read_manifest(samples)["taken_from"]["stages"][-1] == "dev-sft"

    table = read_json(out / "sweep.json")
    assert list(table) == ["base", "method.least_reward=0.7", "method.explore.samples=3"]
    row = table["method.least_reward=0.7"]
    assert row["agents"] == ["rft"] and not table["base"]["differences"]
    found = row["differences"]["base"]["reward"]
    assert found["mean"] == pytest.approx(paired_difference(dev(least, "rft"), dev(base, "rft")).mean)
    text = (out / "sweep.md").read_text()
    assert "Last agents on the dev tasks" in text and "| method.least_reward=0.7 | base | reward |" in text

    done = {file: file.stat().st_mtime_ns for file in out.rglob("DONE")}
    command.succeeds(*arguments, "--seeds", 2, "--out", out)
    assert {file: file.stat().st_mtime_ns for file in done} == done, "what was finished stays"
    assert read_json(out / "sweep.json")["base"]["seeds"] == 2


def test_stages_of_a_finished_run_are_taken(tmp_path: Path, path: Path, command) -> None:
    command.succeeds("run", path, f"run_directory={tmp_path / 'runs' / 'seed-0'}")
    arguments = ["sweep", path, "--vary", "method.least_reward=0.7", "--from", tmp_path / "runs"]
    command.succeeds(*arguments, "--out", tmp_path / "out")
    base = tmp_path / "out" / "base" / "seed-0"
    assert read_manifest(base)["taken_from"]["stages"][-1] == "dev-rft"
    assert dev(base, "rft")


def test_what_cannot_be_swept_is_refused_before_anything_runs(tmp_path: Path, path: Path, command) -> None:
    out = tmp_path / "out"

    def refused(*arguments: object, says: list[str]) -> None:
        command.fails("sweep", path, *arguments, "--out", out, says=says)
        assert not list(out.rglob("recipe.yaml"))

    refused("--vary", "method.least_reward=0.5", says=["the recipe's own value", "leave it out"])
    refused("--vary", "method.least_reward=0.7,0.7", says=["equal to method.least_reward=0.7"])
    refused("--vary", "method.least_reward", says=["no values in 'method.least_reward'", "for example"])
    refused("--vary", "method.least_reward=[1", says=["cannot read"])
    refused("--vary", "method.least_rewart=1", says=["least_rewart", "least_reward"])
    refused("--vary", "tasks.test_per_kind=3", says=["changes nothing: a sweep plays no test task"])
    nothing = ["--set", "tasks.dev_per_kind=0"]
    refused(
        "--vary", "method.least_reward=0.7", *nothing, says=["there are no dev tasks", "tasks.dev_per_kind"]
    )
    source = ["--from", tmp_path]
    refused("--vary", "method.least_reward=0.7", *source, says=["no run here to take stages from"])
    bound = ["--set", "method={name: best_of_n}"]
    refused(
        "--vary", "method.sft.epochs=2", *bound, says=["best_of_n is judged on test tasks", "eto compare"]
    )
