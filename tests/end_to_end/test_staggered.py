"""Staggered chains on the corridor: each begins with the clone, and trains on the pairs of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from credit_runs import PREFERRING, PowerCut, interrupted_at, pairs_of, played, write_recipe

from eto.credit.contrast import accumulated
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.experiment.run_records import read_manifest
from eto.methods.staggered import StaggeredSettings, schedule
from eto.steps import preferring
from eto.types import Pair

METHOD: dict[str, Any] = {
    "name": "staggered",
    "iterations": 2,
    "explore": {"samples": 2, "temperature": 1.0},
    "contrast": {"per_task": None},
    "dpo": PREFERRING | {"epochs": 1, "learning_rate": 3e-4},
}


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def test_when_chains_begin() -> None:
    times = list(schedule(StaggeredSettings(iterations=4, chains=3)))
    assert [[turn.chain for turn in turns] for turns in times] == [[1], [1, 2], [1, 2, 3], [1, 2, 3]]
    assert [turn.number for turns in times for turn in turns] == list(range(1, 10)), "3 * 4 - 3 rounds"
    assert [turn.agent for turn in times[3]] == ["chain-1-4", "chain-2-3", "chain-3-2"]


def test_chains_train_on_the_pairs_of_all(
    tmp_path: Path, model: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, tuple[list[Pair], str]] = {}
    real = preferring.preference

    def preference(learner: Any, pairs: Any, *more: Any, directory: Path, **others: Any) -> Any:
        weights = next(learner.model.parameters()).detach().sum().item()
        given[directory.name] = list(pairs), f"{weights:.6f}"
        return real(learner, pairs, *more, directory=directory, **others)

    monkeypatch.setattr(preferring, "preference", preference)
    calm, run = tmp_path / "calm", tmp_path / "run"
    command.succeeds("run", write_recipe(tmp_path / "calm.yaml", model, calm, METHOD, rooms=3))
    assert {t.source for t in played(calm, "explore/1")} == {"sft"}
    assert {t.source for t in played(calm, "explore/2")} == {"chain-1-1"}
    assert {t.source for t in played(calm, "explore/3")} == {"sft"}, "the second chain begins with the clone"
    said = [[turn.said for t in played(calm, f"explore/{n}") for turn in t.turns] for n in (1, 3)]
    assert said[0] != said[1], "with another seed"
    early, late, anew = (pairs_of(calm, number) for number in (1, 2, 3))
    mixed = accumulated(late, anew)
    assert given["dpo-1"][0] == early and given["dpo-2"][0] == given["dpo-3"][0] == mixed
    assert len(mixed) > max(len(late), len(anew)) > 0
    assert given["dpo-1"][1] == given["dpo-3"][1] != given["dpo-2"][1], "each starts from its own agent"
    agents = build_results(calm)["splits"]["test"]["agents"]
    assert set(agents) == {"sft", "chain-1-1", "chain-1-2", "chain-2-1"}

    path = write_recipe(tmp_path / "run.yaml", model, run, METHOD, rooms=3)
    for stage in ("dpo-1", "dpo-3"):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
            interrupted_at(patch, stage, 2)
            command("run", path)
    command.succeeds("run", path)
    assert build_results(run)["splits"] == build_results(calm)["splits"], "as if it had not been broken off"

    fork = write_recipe(tmp_path / "fork.yaml", model, tmp_path / "fork", METHOD | {"name": "eto"}, rooms=3)
    command.succeeds("run", fork, "--from", calm, "method.guard.ship_only_if_better=false")
    assert read_manifest(tmp_path / "fork")["taken_from"]["stages"][-1] == "explore-1"


def test_a_chain_that_never_begins_is_refused(tmp_path: Path, model: Path, command) -> None:
    path = write_recipe(tmp_path / "r.yaml", model, tmp_path / "run", METHOD)
    says = ["chain 3 would begin after", "iterations, which is 2", "lower"]
    command.fails("run", path, "method.chains=3", says=says)
    command.fails("run", path, "method.chains=1", says=["method.chains"])
