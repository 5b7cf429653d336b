"""Practice from recipe to report on a small game: tasks without experts, own successes and own pairs."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from coin_game import RECIPE

from eto.data.formats import read_pairs, read_trajectories
from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.experiment.run_records import read_done
from eto.methods.practice import shortest_successes
from eto.types import Phase

CLONING = RECIPE["method"]["sft"]
PRACTICE = {
    "name": "practice",
    "sft": CLONING | {"epochs": 5},
    "least_reward": 0.9,
    "explore": {"samples": 4, "temperature": 1.0},
    "rft": CLONING | {"epochs": 2},
}
TASKS = {"train_per_kind": 48, "experts_per_kind": 36, "dev_per_kind": 8, "test_per_kind": 8}


def _recipe(directory: Path, model: Path, method: dict[str, Any], **tasks: Any) -> Path:
    values = deepcopy(dict(RECIPE))
    values |= {"run_directory": str(directory / "run"), "method": PRACTICE | method, "tasks": TASKS | tasks}
    values["model"]["path"] = str(model)
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _trained(run: Path, stage: str) -> int:
    return int(json.loads((run / "stages" / stage / "round.json").read_text())["pairs"])


def test_tasks_without_experts_are_practised(tmp_path: Path, model: Path, command) -> None:
    path, run = _recipe(tmp_path, model, {}), tmp_path / "run"
    command.succeeds("run", path)

    experts = {t.task.id for t in read_trajectories(run / "stages" / "expert" / "expert.jsonl")}
    with TrajectoryStore(run / "trajectories.sqlite", create=False) as store:
        explored = store.get(Phase.explore(1))
    played = {t.task.id for t in explored}
    assert len(experts) == 36 and len(played) == 48 and experts < played
    won = shortest_successes(explored, 0.9)
    assert {t.task.id for t in won} - experts, "no task without an expert was won"
    done = read_done(run / "stages" / "rft-1" / "DONE")["metrics"]
    assert done["trajectories"] == len(experts) + len(won) and done["tokens"] > 0
    pairs = read_pairs(run / "stages" / "contrast-1" / "pairs.jsonl")
    assert pairs and all(pair.chosen.source == pair.rejected.source == "sft" for pair in pairs)
    assert all(pair.chosen.reward > pair.rejected.reward + 0.1 for pair in pairs)
    assert {pair.task.id for pair in pairs} - experts
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "rft-1", "practice-1"}


def test_fresh_pairs_are_of_the_agent_that_cloned_its_successes_and_pairs_add_up(
    tmp_path: Path, model: Path, command
) -> None:
    path, run = (
        _recipe(tmp_path, model, {"iterations": 2, "fresh_pairs": True, "accumulate": True}),
        tmp_path / "run",
    )
    command.succeeds("run", path)
    pairs = [read_pairs(run / "stages" / f"contrast-{n}" / "pairs.jsonl") for n in (1, 2)]
    for number, made in enumerate(pairs, start=1):
        assert made and {pair.chosen.source for pair in made} == {f"rft-{number}"}
    assert _trained(run, "dpo-1") == len(pairs[0])
    assert _trained(run, "dpo-2") == len(pairs[0]) + len(pairs[1])
    with TrajectoryStore(run / "trajectories.sqlite", create=False) as store:
        players = [{t.source for t in store.get(Phase.explore(number))} for number in (1, 2, 3, 4)]
    assert players == [{"sft"}, {"rft-1"}, {"practice-1"}, {"rft-2"}]

    def of_round_two() -> tuple[str, dict[str, Any]]:
        return (run / "stages" / "dpo-2" / "round.json").read_text(), build_results(run)["splits"]["test"]

    undisturbed = of_round_two()
    for stage in ("explore-4", "contrast-2", "dpo-2", "test"):
        shutil.rmtree(run / "stages" / stage)
    command.succeeds("run", path)
    assert of_round_two() == undisturbed


def test_without_pairs_only_the_successes_are_cloned(tmp_path: Path, model: Path, command) -> None:
    path, run = _recipe(tmp_path, model, {"dpo": None}), tmp_path / "run"
    command.succeeds("run", path)
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "rft-1"}
    assert not (run / "stages" / "contrast-1").exists()

    command.fails("run", path, "method.accumulate=true", says=["method.accumulate", "method.dpo"])


def test_practice_without_any_expert(tmp_path: Path, model: Path, command) -> None:
    """The tiny model knows nothing of the game: it is taught first, as a user's own instruct model is."""
    teacher = _recipe(tmp_path, model, {})
    command.succeeds("run", teacher)
    taught = tmp_path / "run" / "stages" / "sft" / "model"
    alone = tmp_path / "alone"
    alone.mkdir()
    path, run = _recipe(alone, taught, {}, experts_per_kind=0), alone / "run"
    command.succeeds("run", path)
    assert read_done(run / "stages" / "expert" / "DONE")["metrics"]["kept"] == 0
    done = read_done(run / "stages" / "rft-1" / "DONE")["metrics"]
    with TrajectoryStore(run / "trajectories.sqlite", create=False) as store:
        won = shortest_successes(store.get(Phase.explore(1)), 0.9)
    assert done["trajectories"] == len(won) > 0
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "rft-1", "practice-1"}
    assert (run / "stages" / "sft" / "model" / "model.safetensors").read_bytes()

    elsewhere = f"run_directory={tmp_path / 'refused'}"
    says = ["experts", "tasks.experts_per_kind is 0", "practice"]
    command.fails("run", path, elsewhere, "method={name: sft}", says=says)


def test_an_agent_that_never_wins_says_so(tmp_path: Path, model: Path, command) -> None:
    path = _recipe(tmp_path, model, {"least_reward": 1.0}, experts_per_kind=0, train_per_kind=4)
    output = command.succeeds("run", path)
    assert "practice needs own episodes that succeed" in output
