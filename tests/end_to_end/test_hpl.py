"""Groups of turns from recipe to report: what is paired, and in which order it is learnt."""

from __future__ import annotations

from pathlib import Path

import pytest
from credit_runs import PREFERRING, check_learnt, context, pairs_of, played, write_recipe

from eto.data.formats import read_trajectories
from eto.environments import SUITES
from eto.evaluation import build_results

SAMPLES, GROUP = 2, 2


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def test_groups_are_learnt_from_clear_to_close(tmp_path: Path, model: Path, command) -> None:
    method = {
        "name": "hpl",
        "group_turns": GROUP,
        "group_samples": SAMPLES,
        "monte_carlo": {"samples": 3},
        "threshold": 0.2,
        "least_value": 0.4,
        "dpo": PREFERRING | {"epochs": 2},
        "guard": {"dev_every_epoch": False},
    }
    run = tmp_path / "run"
    path = write_recipe(tmp_path / "recipe.yaml", model, run, method)
    command.succeeds("run", path)
    experts = {t.task.id: t for t in read_trajectories(run / "stages" / "expert" / "expert.jsonl")}
    phases = [{keyed(pair) for pair in pairs_of(run, phase)} for phase in (1, 2, 3)]
    assert phases[0] <= phases[1] <= phases[2]
    groups = [pair for pair in pairs_of(run, 3) if pair.kind == "group"]
    assert groups
    for pair in groups:
        at, expert = context(pair), experts[pair.task.id]
        assert pair.chosen.actions == expert.actions[: at + GROUP]
        assert len(pair.rejected.turns) <= at + GROUP
    assert all(context(pair) % GROUP == 0 for pair in groups)
    check_learnt(run, "dpo-3")
    branched = played(run, "continue/branch-groups")
    assert len(branched) == len(experts) * 2 * SAMPLES, "two places in four rooms"
    results = build_results(run)
    assert {"sft", "hpl-1", "hpl-2", "hpl-3"} == set(results["splits"]["test"]["agents"])
    dev = results["splits"]["dev"]["agents"]
    assert results["shipped"]["agent"] in ("sft", "hpl-1", "hpl-2", "hpl-3") and dev
    done = (run / "stages" / "test" / "DONE").read_text()
    command.succeeds("run", path)
    assert (run / "stages" / "test" / "DONE").read_text() == done


def keyed(pair) -> tuple[object, ...]:
    return pair.task.id, pair.kind, context(pair), pair.chosen.actions, pair.rejected.actions


def test_groups_of_equal_outcome_keep_their_weight(tmp_path: Path, model: Path, command) -> None:
    run, path = tmp_path / "run", tmp_path / "recipe.yaml"
    write_recipe(path, model, run, {"name": "hpl", "contrast": {"gap_weights": True}})
    command.fails("run", path, says=["gap_weights gives groups of equal outcome no weight"])
    assert not (run / "stages" / "sft").exists(), "before anything is trained"
