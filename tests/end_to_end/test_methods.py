"""The methods beside ETO, each from recipe to report on a small game, with its mechanism at work."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from coin_game import RECIPE

from eto.data.files import read_json
from eto.data.formats import read_trajectories
from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.experiment.compose import cloned_part
from eto.experiment.recipe import load_recipe
from eto.experiment.run_records import read_done
from eto.methods.nat import TAGS, NatSettings, marked, words
from eto.methods.rft import distinct_successes
from eto.types import Message, Phase, StopReason, Task, Trajectory, Turn

CLONING = RECIPE["method"]["sft"]


@pytest.fixture
def recipe(tmp_path: Path, model: Path):
    """Write a recipe of a method; returns its file and run directory."""

    def write(epochs: int, **method: Any) -> tuple[Path, Path]:
        values = deepcopy(dict(RECIPE))
        values |= {
            "run_directory": str(tmp_path / "run"),
            "method": {**method, "sft": CLONING | {"epochs": epochs}},
        }
        values["model"]["path"] = str(model)
        values["tasks"] = {
            "train_per_kind": 48,
            "dev_per_kind": 8,
            "test_per_kind": 8,
            "explore_unseen": 0.25,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        return path, tmp_path / "run"

    return write


def played(run: Path, phase: str) -> list[Trajectory]:
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        return store.get(Phase.parse(phase))


def cloned(run: Path, stage: str) -> int:
    """Trajectories that a stage of cloning was given."""
    return read_done(run / "stages" / stage / "DONE")["metrics"]["trajectories"]


def test_cloning_alone(recipe, command) -> None:
    path, run = recipe(1, name="sft")
    command.succeeds("run", path)
    results = build_results(run)
    assert list(results["splits"]["test"]["agents"]) == ["sft"]
    assert results["shipped"]["agent"] == "sft"
    experts = read_trajectories(run / "stages" / "expert" / "expert.jsonl")
    assert cloned(run, "sft") == round(len(experts) * 0.75)


def test_rft_clones_the_successes_it_samples(recipe, command) -> None:
    path, run = recipe(5, name="rft", explore={"samples": 3, "temperature": 1.0}, least_reward=0.9)
    command.succeeds("run", path)
    given = cloned_part(load_recipe(path), read_trajectories(run / "stages" / "expert" / "expert.jsonl"))
    added = distinct_successes(played(run, "explore/1"), 0.9, given)
    assert added, "no success that the cloned experts do not show was sampled"
    assert cloned(run, "sft") == len(given) and cloned(run, "rft") == len(given) + len(added)
    results = build_results(run)
    assert set(results["splits"]["test"]["agents"]) == {"sft", "rft"}
    assert results["shipped"]["agent"] in ("sft", "rft")
    weights = [
        (run / "stages" / name / "model" / "model.safetensors").read_bytes() for name in ("sft", "rft")
    ]
    assert weights[0] != weights[1]
    done = (run / "stages" / "rft" / "DONE").read_text()
    command.succeeds("run", path)
    assert (run / "stages" / "rft" / "DONE").read_text() == done


def test_nat_acts_under_the_prompt_of_success(recipe, command) -> None:
    path, run = recipe(1, name="nat", explore={"samples": 2, "temperature": 1.0})
    command.succeeds("run", path)
    success, failure = NatSettings().success, NatSettings().failure
    explored = played(run, "explore/1")
    assert any(t.reward < 1 for t in explored), "nothing failed"
    assert not any(text in each.messages[-1].content for each in explored for text in (success, failure))
    assert cloned(run, "nat") == cloned(run, "sft") + sum(bool(t.turns) for t in explored)
    for agent, ends in (("sft", False), ("nat", True)):
        for split in ("dev", "test"):
            prompts = [t.messages[-1].content for t in played(run, f"evaluate/{agent}/{split}")]
            assert prompts and all(prompt.endswith(success) is ends for prompt in prompts)
    assert read_json(run / "results.json")["shipped"]["agent"] in ("sft", "nat")


# Their parts.

TASK = Task("toy/1", "toy", "kind", "train")


def episode(reward: float, *actions: str, sample: int = 0) -> Trajectory:
    turns = tuple(Turn(action, "seen", reward) for action in actions)
    prompt = (Message("user", "Do it."),)
    return Trajectory(TASK, prompt, turns, reward, None, StopReason.OUT_OF_TURNS, "sft", sample)


def test_each_way_is_a_success_once() -> None:
    broken = replace(episode(1.0, "c"), stop=StopReason.ENVIRONMENT_FAILED)
    explored = [
        episode(1.0, "b", sample=2),
        episode(0.9, "a", "b", sample=1),
        episode(1.0, "b", sample=0),
        episode(1.0, "a", sample=3),
        broken,
    ]
    assert distinct_successes(explored, 1.0, known=[episode(1.0, "a")]) == [explored[2]]
    assert distinct_successes(explored, 0.9) == [explored[2], explored[1], explored[3]]
    elsewhere = replace(episode(1.0, "a"), task=replace(TASK, id="toy/2"))
    assert distinct_successes([elsewhere], 1.0, known=[episode(1.0, "a")]) == [elsewhere]


def test_prompts_say_how_an_episode_ends() -> None:
    settings = NatSettings(success="Well.", failure="Badly.", least_reward=0.5)
    good, bad = marked([episode(0.5, "a"), episode(0.4, "a")], settings)
    assert good.messages[-1].content == "Do it.\n\nWell."
    assert bad.messages[-1].content == "Do it.\n\nBadly."
    assert good.turns == episode(0.5, "a").turns and good.reward == 0.5


def test_nat_in_four_classes() -> None:
    settings = NatSettings(classes=4)
    texts = [words(reward, settings) for reward in (0.0, 0.3, 0.4, 0.99, 1.0)]
    assert texts == [TAGS[0], TAGS[1], TAGS[2], TAGS[2], TAGS[3]]
    assert set(settings.without_effect()) == {"least_reward", "success", "failure"}
    assert [words(r, NatSettings(least_reward=0.5)) for r in (0.5, 0.4)] == [
        NatSettings().success,
        NatSettings().failure,
    ]
