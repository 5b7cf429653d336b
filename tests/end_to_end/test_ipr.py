"""Step-wise methods from recipe to report, on a corridor in which one wrong move decides all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from corridor import Corridor
from credit_runs import PREFERRING, check_learnt, context, pairs_of, played, write_recipe

from eto.data.files import read_rows
from eto.data.formats import read_trajectories
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.experiment.run_records import read_done


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def test_ipr_blames_the_steps_that_go_on_worse(tmp_path: Path, model: Path, command) -> None:
    method = {"name": "ipr", "iterations": 1, "monte_carlo": {"samples": 3}, "threshold": 0.3}
    run = tmp_path / "run"
    path = write_recipe(tmp_path / "recipe.yaml", model, run, method)
    command.succeeds("run", path)
    experts = {t.task.id: t for t in read_trajectories(run / "stages" / "expert" / "expert.jsonl")}
    step_wise = [pair for pair in pairs_of(run) if pair.kind == "suffix"]
    assert step_wise and any(pair.kind == "trajectory" for pair in pairs_of(run))
    for pair in step_wise:
        at, expert = context(pair), experts[pair.task.id]
        assert at >= 1 and pair.chosen.actions == expert.actions and pair.rejected.reward == 0
        assert not any(turn.loss for turn in pair.rejected.turns[:at])
        assert pair.rejected.actions[:at] == expert.actions[:at]
        wrong = pair.rejected.actions[at]
        assert wrong.startswith("move "), "what costs only a turn is no mistake"
        assert wrong != expert.actions[at]
    check_values(run)
    check_learnt(run)
    results = build_results(run)
    assert set(results["splits"]["test"]["agents"]) == {"sft", "ipr-1"}
    assert results["shipped"]["agent"] == "ipr-1", "better on dev than the agent that it was cloned from"
    stages = [stage["stage"] for stage in results["stages"]]
    order = ["expert", "sft", "dev-sft", "branch-1", "values-1", "contrast-1", "dpo-1"]
    assert stages[: len(order)] == order
    done = (run / "stages" / "test" / "DONE").read_text()
    command.succeeds("run", path)
    assert (run / "stages" / "test" / "DONE").read_text() == done


def check_values(run: Path) -> None:
    """Every state was played on from as often as the recipe says, by the cloned agent."""
    values = played(run, "continue/values-1")
    assert {t.source for t in values} == {"sft"}
    assert not any(t.turns[0].log_probs for t in values) and any(t.turns[-1].log_probs for t in values)
    noted = read_done(run / "stages" / "values-1" / "DONE")["metrics"]
    assert noted["episodes"] == 3 * noted["states"] == len(values)
    parted = [pair for pair in pairs_of(run) if pair.kind == "suffix"]
    assert noted["states"] >= len(parted), "each pair's rejected step at least"
    for pair in parted:
        begun = pair.rejected.actions[: context(pair) + 1]
        after = [t for t in values if t.task == pair.task and t.actions[: len(begun)] == begun]
        assert len(after) >= 3 and not any(t.reward for t in after), "from there, all is lost"


def test_a_second_round_keeps_the_first_reference(tmp_path: Path, model: Path, command) -> None:
    method = {
        "name": "ipr",
        "iterations": 2,
        "monte_carlo": {"samples": 2},
        "dpo": PREFERRING | {"epochs": 1, "learning_rate": 3e-4},
        "guard": {"ship_only_if_better": False},
    }
    run = tmp_path / "run"
    command.succeeds("run", write_recipe(tmp_path / "recipe.yaml", model, run, method))
    first = {row["stage"]: row for row in reversed(list(read_rows(run / "metrics.jsonl")))}
    assert first["dpo-1"]["margin"] == pytest.approx(0.0, abs=1e-4)
    assert abs(first["dpo-2"]["margin"]) > 1e-3, "the agent has moved from the reference, which is the cloned"
    assert {t.source for t in played(run, "continue/branch-2")} == {"ipr-1"}
    assert {t.source for t in played(run, "continue/values-2")} == {"sft"}


@pytest.mark.parametrize("granularity", ["step", "mixture"])
def test_eto_contrasts_single_actions(tmp_path: Path, model: Path, command, granularity: str) -> None:
    method = {"name": "eto", "iterations": 1, "granularity": granularity}
    run = tmp_path / "run"
    command.succeeds("run", write_recipe(tmp_path / "recipe.yaml", model, run, method))
    kinds = Counter(pair.kind for pair in pairs_of(run))
    assert kinds["action"] and bool(kinds["trajectory"]) is (granularity == "mixture")
    ends = {(t.task.id, t.sample): t for t in played(run, "continue/branch-1")}
    suite = Corridor()
    for pair in pairs_of(run):
        if pair.kind == "action":
            at, way = context(pair), suite.way(pair.task)
            assert len(pair.chosen.turns) == len(pair.rejected.turns) == at + 1
            assert pair.chosen.actions[at] == f"move {way[at]}" != pair.rejected.actions[at]
            assert ends[pair.task.id, at].reward == pair.rejected.reward < pair.chosen.reward
    check_learnt(run)
    done = [stage["stage"] for stage in build_results(run)["stages"]]
    assert ("explore-1" in done) is (granularity == "mixture") and "branch-1" in done


@pytest.mark.parametrize("method", ["ipr", "hpl"])
def test_an_environment_that_answers_otherwise_each_time_is_refused(
    tmp_path: Path, model: Path, command, method: str
) -> None:
    values = {"name": method, "monte_carlo": {"samples": 1}}
    path = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run", values, restless=True)
    command.fails(
        "run", path, says=["environment corridor", f"{method} needs", "the same actions alike", "rft"]
    )
