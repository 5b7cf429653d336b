"""Rounds of practice and of preference training on the corridor: whose pairs they train on, with experts and
without, resumed and forked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from corridor import Corridor
from credit_runs import CLONING, PREFERRING, PowerCut, interrupted_at, pairs_of, played, write_recipe

from eto.credit.contrast import accumulated
from eto.data.files import read_rows
from eto.data.store import TrajectoryStore
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.experiment.run_records import read_done
from eto.methods.practice import shortest_successes
from eto.steps import preferring
from eto.types import Pair, Phase, Trajectory

DPO = PREFERRING | {"epochs": 1, "learning_rate": 3e-4}
PRACTICE = {
    "name": "practice",
    "iterations": 2,
    "explore": {"samples": 4, "temperature": 1.0},
    "sft": CLONING | {"epochs": 8, "batch_size": 4},
    "rft": CLONING | {"epochs": 1, "batch_size": 8},
    "dpo": DPO,
}
FEW = {"train_per_kind": 16, "experts_per_kind": 8, "dev_per_kind": 2, "test_per_kind": 2}
TO_RFT_1 = ["expert", "sft", "dev-sft", "explore-1", "rft-1", "dev-rft-1"]


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Pair]]:
    """Stage -> the pairs that preference training was given there, most recently."""
    given: dict[str, list[Pair]] = {}
    real = preferring.preference

    def preference(learner: Any, pairs: Any, *more: Any, directory: Path, **others: Any) -> Any:
        given[directory.name] = list(pairs)
        return real(learner, pairs, *more, directory=directory, **others)

    monkeypatch.setattr(preferring, "preference", preference)
    return given


def recipe_of(run: Path, model: Path, method: dict[str, Any], **tasks: int) -> Path:
    """A recipe beside its run directory."""
    path = write_recipe(run.with_suffix(".yaml"), model, run, method, rooms=3)
    values = yaml.safe_load(path.read_text())
    values["tasks"] = FEW | tasks if method["name"] == "practice" else values["tasks"]
    values["checkpoint_seconds"] = 1
    if method["name"] == "sft":
        del values["method"]["dpo"]
    path.write_text(yaml.safe_dump(values))
    return path


@contextmanager
def power_cut_in(phase: str, episodes: int) -> Iterator[None]:
    """A run ends without warning once so many episodes of a phase are kept."""
    add = TrajectoryStore.add

    def adds(store: TrajectoryStore, to: Phase, trajectory: Trajectory) -> bool:
        kept = add(store, to, trajectory)
        if to.text == phase and store.count(to) >= episodes:
            raise PowerCut
        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrajectoryStore, "add", adds)
        with pytest.raises(PowerCut):
            yield


def without_log_probs(run: Path, iteration: int) -> str:
    """A round's pairs, except for what depends, by rounding, on who was decoded beside."""
    text = (run / "stages" / f"contrast-{iteration}" / "pairs.jsonl").read_text()
    return re.sub(r', "log_probs": \[[^]]*\]', "", text)


def taken(run: Path) -> list[str]:
    """Stages that a fork took."""
    return json.loads((run / "manifest.json").read_text())["taken_from"]["stages"]


def agents(run: Path) -> list[str]:
    return sorted(build_results(run)["splits"]["test"]["agents"])


@pytest.mark.parametrize("name", ["eto", "practice", "ipr"])
def test_a_round_trains_on_earlier_pairs_only_where_they_accumulate(
    name: str, tmp_path: Path, model: Path, command, trained_on
) -> None:
    method = {"name": name, "iterations": 2, "dpo": DPO, "guard": {"ship_only_if_better": False}}
    if name == "practice":
        method = PRACTICE
    elif name == "ipr":
        method |= {"monte_carlo": {"samples": 2}}
    else:
        method |= {"explore": {"samples": 2, "temperature": 1.0}, "contrast": {"per_task": None}}
    run, fork = tmp_path / "run", tmp_path / "fork"
    command.succeeds("run", recipe_of(run, model, method | {"accumulate": True}))
    first, second = pairs_of(run, 1), pairs_of(run, 2)
    assert first and second and trained_on["dpo-1"] == first
    assert trained_on["dpo-2"] == accumulated(first, second) and len(trained_on["dpo-2"]) > len(second)
    assert {pair.task.id for pair in first} <= {pair.task.id for pair in trained_on["dpo-2"]}

    trained_on.clear()
    command.succeeds("run", recipe_of(fork, model, method), "--from", run)
    assert taken(fork)[-1] == "contrast-2", "the setting decides training alone"
    assert trained_on == {"dpo-2": second}


def test_fresh_pairs_are_of_the_agent_that_cloned_its_successes(tmp_path: Path, model: Path, command) -> None:
    """Broken off in each of its stages, a run ends as an undisturbed one."""
    method = PRACTICE | {"fresh_pairs": True, "accumulate": True}
    calm, run, fork = tmp_path / "calm", tmp_path / "run", tmp_path / "fork"
    command.succeeds("run", recipe_of(calm, model, method))
    players = [{t.source for t in played(calm, f"explore/{number}")} for number in (1, 2, 3, 4)]
    assert players == [{"sft"}, {"rft-1"}, {"practice-1"}, {"rft-2"}]
    for number in (1, 2):
        sides = [side for pair in pairs_of(calm, number) for side in (pair.chosen, pair.rejected)]
        assert sides and {side.source for side in sides} == {f"rft-{number}"}

    path = recipe_of(run, model, method)
    with power_cut_in("explore/2", 20):
        command("run", path)
    cut = played(run, "explore/2")
    assert 20 <= len(cut) < 64 and "explore-2" not in [p.parent.name for p in run.glob("stages/*/DONE")]
    for stage in ("rft-2", "dpo-2"):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
            interrupted_at(patch, stage, 2)
            command("run", path)
    command.succeeds("run", path)
    kept = {(t.task.id, t.sample): t for t in played(run, "explore/2")}
    assert len(kept) == 64 and all(kept[t.task.id, t.sample] == t for t in cut)
    assert [without_log_probs(run, n) for n in (1, 2)] == [without_log_probs(calm, n) for n in (1, 2)]
    assert build_results(run)["splits"] == build_results(calm)["splits"]
    steps = [row["step"] for row in read_rows(run / "metrics.jsonl") if row["stage"] == "dpo-2"]
    assert steps == list(range(1, len(steps) + 1))

    command.succeeds("run", recipe_of(fork, model, PRACTICE), "--from", run)
    assert taken(fork) == TO_RFT_1
    assert {pair.chosen.source for pair in pairs_of(fork)} == {"sft"}


def test_rounds_without_pairs(tmp_path: Path, model: Path, command) -> None:
    paired, run = tmp_path / "paired", tmp_path / "run"
    command.succeeds("run", recipe_of(paired, model, PRACTICE | {"iterations": 1}))
    path = recipe_of(run, model, PRACTICE | {"dpo": None})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        interrupted_at(patch, "rft-2", 2)
        command("run", path, "--from", paired)
    assert taken(run) == TO_RFT_1, "what comes before the first pairs is alike"
    command.succeeds("run", path, "--from", paired)
    assert agents(run) == ["rft-1", "rft-2", "sft"]
    assert {t.source for t in played(run, "explore/2")} == {"rft-1"}
    assert not list(run.glob("stages/contrast-*")) + list(run.glob("stages/dpo-*"))
    for override in ("fresh_pairs=true", "accumulate=true", "contrast.per_task=1", "guard.patience=1"):
        says = [f"method.{override.split('=')[0]} has no effect", "give method.dpo settings"]
        command.fails("run", path, f"method.{override}", says=says)

    back = tmp_path / "back"
    command.succeeds("run", recipe_of(back, model, PRACTICE | {"iterations": 1}), "--from", run)
    assert taken(back) == TO_RFT_1 and agents(back) == ["practice-1", "rft-1", "sft"]


def test_practice_without_any_expert(tmp_path: Path, model: Path, command) -> None:
    """The tiny model knows nothing of the game: it is taught first, as a user's own instruct model is."""
    school, run = tmp_path / "school", tmp_path / "run"
    command.succeeds("run", recipe_of(school, model, {"name": "sft", "sft": CLONING | {"batch_size": 4}}))
    taught = school / "stages" / "sft" / "model"
    method = PRACTICE | {"iterations": 1}
    path = recipe_of(run, taught, method, experts_per_kind=0)
    with power_cut_in("explore/1", 20):
        command("run", path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        interrupted_at(patch, "rft-1", 1)
        command("run", path)
    command.succeeds("run", path)
    assert read_done(run / "stages" / "expert" / "DONE")["metrics"]["kept"] == 0
    explored = played(run, "explore/1")
    assert len(explored) == 4 * FEW["train_per_kind"] and {t.source for t in explored} == {"sft"}
    won = shortest_successes(explored, 1.0)
    done = read_done(run / "stages" / "rft-1" / "DONE")["metrics"]
    assert done["trajectories"] == len(won) > 0
    assert pairs_of(run) and {pair.rejected.source for pair in pairs_of(run)} == {"sft"}
    assert agents(run) == ["practice-1", "rft-1", "sft"]
    weights = [each / "model.safetensors" for each in (taught, run / "stages" / "sft" / "model")]
    assert weights[0].read_bytes() == weights[1].read_bytes(), "nothing was cloned into the first agent"

    fork = tmp_path / "fork"
    longer = method | {"explore": {"samples": 3, "temperature": 1.0}}
    command.succeeds("run", recipe_of(fork, taught, longer, experts_per_kind=0), "--from", run)
    assert taken(fork) == ["expert", "sft", "dev-sft"] and len(played(fork, "explore/1")) == 48


def test_a_model_that_never_wins_cannot_begin(tmp_path: Path, model: Path, command) -> None:
    run = tmp_path / "run"
    path = recipe_of(run, model, PRACTICE, experts_per_kind=0, train_per_kind=4)
    says = ["practice needs own episodes that succeed", "its 16 own episodes earn 0", "no experts"]
    hints = ["easier tasks", "method.explore.samples", "tasks.experts_per_kind", "follows the prompt"]
    for _ in range(2):  # the episodes are kept, and nothing else is made of them
        command.fails("run", path, says=[*says, *hints])
    assert not (run / "stages" / "rft-1").exists()


def test_a_method_that_clones_needs_experts(tmp_path: Path, model: Path, command) -> None:
    path = recipe_of(tmp_path / "run", model, PRACTICE, experts_per_kind=0)
    says = ["sft needs experts", "tasks.experts_per_kind is 0", "practice"]
    command.fails("run", path, "method={name: sft}", says=says)
    assert Corridor().expert_actions(Corridor().tasks("train")[0], None), "though the suite has some"
