"""OPARL from recipe to report on the corridor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corridor import Corridor
from credit_runs import PowerCut, check_learnt, interrupted_at, pairs_of, played, write_recipe
from playing import how

from eto.credit.ensemble import Ensemble
from eto.data.hashed_words import action_vectors
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.experiment.run_records import read_done
from eto.rollout.rollouts import rollouts
from eto.steps import Disputed
from eto.training.learner import load_learner
from eto.types import Trajectory


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def ensemble_of(run: Path, iteration: int = 1) -> Ensemble:
    with np.load(run / "stages" / f"ensemble-{iteration}" / "ensemble.npz") as kept:
        return Ensemble(kept["weights"], float(kept["mean"]))


def disputed(ensemble: Ensemble, episodes: Sequence[Trajectory]) -> float:
    """Mean deviation of the estimates of the episodes' first actions, whose states are alike in all plays."""
    points = np.array([action_vectors(each)[0] for each in episodes])
    return float(ensemble.estimates(points).std(axis=0).mean())


def test_half_of_the_episodes_go_where_estimates_differ(
    tmp_path: Path, model: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = tmp_path / "run", tmp_path / "recipe.yaml"
    write_recipe(path, model, run, {"name": "oparl", "iterations": 2})
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        interrupted_at(patch, "dpo-1", 2)
        command("run", path)
    command.succeeds("run", path)
    order = ["expert", "sft", "dev-sft", "explore-1", "ensemble-1", "explore-2", "contrast-1", "dpo-1"]
    order += ["explore-3", "ensemble-2", "explore-4", "contrast-2", "dpo-2"]
    results = build_results(run)
    assert [stage["stage"] for stage in results["stages"]][: len(order)] == order
    assert set(results["splits"]["test"]["agents"]) == {"sft", "oparl-1", "oparl-2"}
    exploited, explored = played(run, "explore/1"), played(run, "explore/2")
    assert len(exploited) == len(explored) == 16 and {each.source for each in explored} == {"sft"}
    check_choice(run, explored)
    assert {pair.rejected.sample for pair in pairs_of(run)} == {0, 1}, "pairs of both agents' episodes"
    check_learnt(run)
    noted = read_done(run / "stages" / "ensemble-2" / "DONE")["metrics"]
    assert noted["episodes"] == 16 * 4, "experts and three explorations"
    done = (run / "stages" / "test" / "DONE").read_text()
    command.succeeds("run", path)
    assert (run / "stages" / "test" / "DONE").read_text() == done


def check_choice(run: Path, explored: list[Trajectory]) -> None:
    """The explorer played again takes the same actions; one that samples once takes less disputed ones."""
    ensemble, suite = ensemble_of(run), Corridor()
    settings = how(workers=0, slots=16, max_action_tokens=8, temperature=1.0, seed=2)
    actor = load_learner(run / "stages" / "sft" / "model", dtype="float32").actor("sft")
    tasks = [each.task for each in explored]
    again = rollouts(replace(actor, choice=Disputed(ensemble, 4)), suite, tasks, **settings)
    by_task = {each.task.id: each.actions for each in again}
    assert {each.task.id: each.actions for each in explored} == by_task
    plain = rollouts(actor, suite, tasks, **settings)
    assert disputed(ensemble, explored) > 1.1 * disputed(ensemble, plain)


def test_what_cannot_be_is_refused(tmp_path: Path, model: Path, command) -> None:
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    for section, says in (
        ({"explorer": {"candidates": 1}}, "set method.explorer.candidates above 1"),
        ({"explorer": {"temperature": 0.0}}, "needs method.explorer.temperature above 0"),
        ({"ensemble": {"heads": 1}}, "set method.ensemble.heads above 1"),
    ):
        write_recipe(path, model, run, {"name": "oparl", **section})
        command.fails("run", path, says=[says])
    assert not run.exists()
