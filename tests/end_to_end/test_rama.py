"""RAMa from recipe to report on corridors of several types: successes are retrieved, shown and cloned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from credit_runs import CLONING, played, write_recipe

from benchmarks import sampling_cost
from eto.data.files import read_json
from eto.data.formats import read_trajectories
from eto.data.retrieval import Learned, Memory
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.experiment.recipe import load_recipe
from eto.experiment.run_records import read_done
from eto.methods import declared_stages
from eto.steps.recalling import demonstration

ROUND = CLONING | {"epochs": 1}
METHOD = {"name": "rama", "explore": {"samples": 2, "temperature": 1.0}, "rft": ROUND}


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def recipe(path: Path, model: Path, run: Path, **retrieval: object) -> Path:
    """A recipe on three task types, with a model that has room for two corridors in its context."""
    method = METHOD | {"sft": CLONING | {"epochs": 30, "batch_size": 6}, "retrieval": retrieval}
    write_recipe(path, model, run, method, kinds=3, rooms=2)
    values = yaml.safe_load(path.read_text())
    del values["method"]["dpo"]
    values["tasks"] = {"train_per_kind": 6, "experts_per_kind": 4, "dev_per_kind": 2, "test_per_kind": 2}
    path.write_text(yaml.safe_dump(values))
    return path


def noted(run: Path, stage: str) -> dict:
    return read_done(run / "stages" / stage / "DONE")["metrics"]


def test_successes_are_shown_addressed_and_cloned(tmp_path: Path, model: Path, command) -> None:
    run = tmp_path / "run"
    path = recipe(tmp_path / "recipe.yaml", model, run, shown=2, rehearsed=1, learning_rate=0.05)
    command.succeeds("run", path)
    experts = read_trajectories(run / "stages" / "expert" / "expert.jsonl")
    assert len(experts) == 12
    for n in (1, 2):
        memory = Memory(experts)
        for before in range(1, n):
            memory.add(played(run, f"explore/{before}"))
            memory.add(played(run, f"continue/shown-{before}"))
        memory.add(played(run, f"explore/{n}"))
        drawn = read_json(run / "stages" / f"shown-{n}" / "shown.json")
        shown = played(run, f"continue/shown-{n}")
        assert len(drawn) == 18 and len(shown) == 36
        for each in shown:
            entry = memory.trajectories[drawn[each.task.id][each.sample]]
            assert entry.reward == 1 and entry.task != each.task
            assert each.messages[-1].content.endswith(demonstration(entry, 20))
        assert {t.source for t in shown} == {"sft" if n == 1 else "rama-1"}
        assert noted(run, f"addressing-{n}")["draws"] == 36
        cloned = noted(run, f"rama-{n}")
        assert 12 <= cloned["trajectories"] <= len(memory.trajectories) + 36 and cloned["tokens"] > 0
    assert len({t.task.kind for t in played(run, "explore/1")}) == 3
    rewards = {t.reward for n in (1, 2) for t in played(run, f"continue/shown-{n}")}
    first, second = (Learned(10.0, 0.05, seed=0) for _ in range(2))
    begun = first.weights
    first.load(run / "stages" / "addressing-1" / "addressing.npz")
    second.load(run / "stages" / "addressing-2" / "addressing.npz")
    assert len(rewards) > 1, "nothing to learn from"
    assert not np.array_equal(second.weights, begun)
    results = build_results(run)
    assert set(results["splits"]["test"]["agents"]) == {"sft", "rama-1", "rama-2"}
    declared = {stage.name for stage in declared_stages(load_recipe(path).method)}
    assert {each["stage"] for each in results["stages"]} == declared | {"expert", "test"}
    assert not [each for each in results["stages"] if each["stage"].startswith(("contrast", "dpo"))]
    for agent in ("dev", "test"):
        prompts = [t.messages[-1].content for t in played(run, f"evaluate/rama-2/{agent}")]
        assert prompts and not any("An example" in prompt for prompt in prompts)
    check_costs(run)
    check_resumes(run, path, command)


def check_costs(run: Path) -> None:
    """The benchmark adds up what was sampled before each dev check."""
    found = sampling_cost.points(run)
    assert [(point.agent, point.episodes) for point in found] == [("sft", 0), ("rama-1", 72), ("rama-2", 144)]
    played_first = [*played(run, "explore/1"), *played(run, "continue/shown-1")]
    assert found[1].steps == sum(len(each.turns) for each in played_first)
    assert found[1].tokens == sum(len(turn.log_probs) for each in played_first for turn in each.turns)
    reached = [replace(found[0], reward=0.2), replace(found[1], reward=0.5), replace(found[2], reward=0.4)]
    assert sampling_cost.first_to_reach(reached, 0.4) == reached[1]
    assert sampling_cost.first_to_reach(reached, 0.6) is None
    said = sampling_cost.report({"with": reached, "without": reached[:1]})
    assert "- with: dev reward 0.200: sft, 0 episodes, 0 steps" in said
    assert "- without: dev reward 0.500: not reached" in sampling_cost.report({"without": reached[:1]}, 0.5)


def check_resumes(run: Path, path: Path, command) -> None:
    """Killed in the second round, it ends as it did, its retrievals the same."""
    kept = {
        name: (run / "stages" / name).read_bytes()
        for name in ("shown-2/shown.json", "addressing-2/addressing.npz", "rama-2/model/model.safetensors")
    }
    for name in ("shown-2", "addressing-2", "rama-2", "dev-rama-2", "test"):
        (run / "stages" / name / "DONE").unlink()
    for name in ("shown-2/shown.json", "addressing-2/addressing.npz"):
        (run / "stages" / name).unlink()
    command.succeeds("run", path)
    for name, before in kept.items():
        assert (run / "stages" / name).read_bytes() == before, name


def test_by_return_without_prompts(tmp_path: Path, model: Path, command) -> None:
    run = tmp_path / "run"
    path = recipe(tmp_path / "recipe.yaml", model, run, addressing="return", shown=0, rehearsed=2)
    command.succeeds("run", path, "method.iterations=1")
    stages = [stage["stage"] for stage in build_results(run)["stages"]]
    assert stages[:5] == ["expert", "sft", "dev-sft", "explore-1", "rama-1"]
    assert noted(run, "rama-1")["trajectories"] >= 12
    bad = recipe(tmp_path / "other.yaml", model, tmp_path / "other")
    command.fails("run", bad, "method.retrieval.return_temperature=1.0", says=["no effect", "addressing"])
    command.fails("run", bad, "method.retrieval.shown=-1", says=["method.retrieval.shown"])
