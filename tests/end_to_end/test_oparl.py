"""OPARL on the corridor: an explorer takes the disputed action, the executor ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from credit_runs import CLONING, PREFERRING, PowerCut, interrupted_at, pairs_of, played, write_recipe

from eto.credit.ensemble import most_disputed
from eto.data.hashed_words import action_vector, read_before
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.evaluation.costs import costs_of
from eto.experiment.run_records import read_done
from eto.steps import disputing
from eto.steps.disputing import Disputed

METHOD: dict[str, Any] = {
    "name": "oparl",
    "iterations": 2,
    "sft": CLONING | {"epochs": 8, "batch_size": 4},
    "explorer": {"samples": 2, "temperature": 1.0, "candidates": 3},
    "contrast": {"per_task": None},
    "dpo": PREFERRING | {"epochs": 1, "learning_rate": 3e-4},
}


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What explorers chose from: prompt, turns, actions, the estimates and the number taken."""
    seen: list[tuple[Any, ...]] = []
    pick = Disputed.pick

    def noting(self: Disputed, messages: Any, turns: Any, actions: Any) -> int:
        taken = pick(self, messages, turns, actions)
        before = read_before(messages, turns)
        points = np.array([action_vector(before, each.action) for each in actions])
        seen.append((messages, list(turns), list(actions), self._ensemble.estimates(points), taken))
        return taken

    monkeypatch.setattr(Disputed, "pick", noting)
    return seen


def test_the_explorer_takes_what_is_disputed(tmp_path: Path, model: Path, command, offers) -> None:
    run = tmp_path / "run"
    command.succeeds("run", write_recipe(tmp_path / "r.yaml", model, run, METHOD, rooms=3))
    greedy, tried = played(run, "explore/1"), played(run, "explore/2")
    assert {t.source for t in (*greedy, *tried)} == {"sft"} and len(tried) == 2 * len(greedy)
    assert {t.source for t in (*played(run, "explore/3"), *played(run, "explore/4"))} == {"oparl-1"}
    turns = [turn for n in (2, 4) for t in played(run, f"explore/{n}") for turn in t.turns]
    assert len(offers) == len(turns), "one choice a turn"
    spent = 0
    for _, _, actions, estimates, taken in offers:
        assert len(actions) == 3 and taken == most_disputed(estimates)
        spent += sum(len(each.action_ids) for n, each in enumerate(actions) if n != taken)
    distinct = [len({each.action for each in actions}) for _, _, actions, _, _ in offers]
    assert max(distinct) > 1, "candidates have seeds of their own"
    assert any(taken for *_, taken in offers), "and not always the first is taken"
    taken = {actions[number].action_ids for _, _, actions, _, number in offers}
    assert {turn.action_ids for turn in turns} <= taken
    noted = [read_done(run / "stages" / f"explore-{n}" / "DONE")["metrics"]["unused_tokens"] for n in (2, 4)]
    sampled = sum(
        len(turn.log_probs) for n in (1, 2, 3, 4) for t in played(run, f"explore/{n}") for turn in t.turns
    )
    assert sum(noted) == spent and costs_of(run).generated_tokens == sampled + spent
    sources = {side.source for pair in pairs_of(run, 3) for side in (pair.chosen, pair.rejected)}
    assert sources <= {"expert", "oparl-1"}
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "oparl-1", "oparl-2"}


def test_two_adapters(tmp_path: Path, model: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The explorer learns from the highest estimates, the executor from the lowest; broken off and resumed, a
    run ends as an undisturbed one."""
    method = METHOD | {"adapters": True, "reset_every": 2, "iterations": 3, "threshold": 0.0}
    calm, run = tmp_path / "calm", tmp_path / "run"

    def recipe(place: Path) -> Path:
        path = write_recipe(place.with_suffix(".yaml"), model, place, method, rooms=3)
        values = yaml.safe_load(path.read_text())
        values["model"]["lora"] = {"rank": 4}
        path.write_text(yaml.safe_dump(values))
        return path

    command.succeeds("run", recipe(calm))
    players = [{t.source for t in played(calm, f"explore/{n}")} for n in range(1, 7)]
    assert players == [{"sft"}, {"sft"}, {"oparl-1"}, {"explorer-1"}, {"oparl-2"}, {"oparl-2"}], (
        "reset after two"
    )
    cautious = [pair for pair in pairs_of(calm, 1) if pair.kind == "action"]
    assert cautious and len(cautious) < len(pairs_of(calm, 1)), "beside those by reward"
    agents = set(build_results(calm)["splits"]["test"]["agents"])
    assert agents == {"sft", "oparl-1", "oparl-2", "oparl-3"}, "no explorer is shipped or tested"
    weights = [
        (calm / "stages" / name / "model" / "model.safetensors").read_bytes()
        for name in ("sft", "dpo-1", "dpo-2")
    ]
    assert len(set(weights)) == 3, "executor and explorer went apart"

    for stage in ("dpo-1", "dpo-2"):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
            interrupted_at(patch, stage, 1)
            command("run", recipe(run))
    command.succeeds("run", recipe(run))
    assert build_results(run)["splits"] == build_results(calm)["splits"]

    path = write_recipe(tmp_path / "full.yaml", model, tmp_path / "full", METHOD)
    says = ["method.adapters trains adapters, but model.lora is null", "set model.lora"]
    command.fails("run", path, "method.adapters=true", says=says)
    says = ["method.states has no effect", "set method.adapters to true"]
    command.fails("run", path, "method.states=3", says=says)


def test_an_ensemble_of_other_episodes_is_refused(tmp_path: Path, model: Path, command, monkeypatch) -> None:
    run = tmp_path / "run"
    path = write_recipe(tmp_path / "r.yaml", model, run, METHOD | {"iterations": 1})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        interrupted_at(patch, "dpo-1", 1)
        command("run", path)
    monkeypatch.setattr(disputing, "mark_of", lambda *episodes: "others")
    command.fails("run", path, says=["made from other episodes", "delete"])
