"""OPARL from recipe to report on the corridor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corridor import Corridor
from credit_runs import (
    CLONING,
    PREFERRING,
    PowerCut,
    check_learnt,
    context,
    interrupted_at,
    pairs_of,
    played,
    write_recipe,
)
from playing import how

from eto.credit.ensemble import Ensemble
from eto.data.hashed_words import action_vector, action_vectors
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.evaluation.costs import costs_of
from eto.experiment.fork import first_stage
from eto.experiment.recipe import load_recipe
from eto.experiment.run_records import read_done
from eto.rollout.rollouts import rollouts
from eto.steps import Disputed
from eto.training.learner import load_learner
from eto.types import Trajectory

SMALL = ("model.lora={rank: 8}", "tasks.train_per_kind=8", "tasks.dev_per_kind=4")
FAST = {
    "sft": {**CLONING, "learning_rate": 1e-2},
    "dpo": {**PREFERRING, "epochs": 3, "learning_rate": 5e-3},
}


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
    order += ["explore-3", "ensemble-3", "explore-4", "contrast-2", "dpo-2"]
    results = build_results(run)
    assert [stage["stage"] for stage in results["stages"]][: len(order)] == order
    assert set(results["splits"]["test"]["agents"]) == {"sft", "oparl-1", "oparl-2"}
    exploited, explored = played(run, "explore/1"), played(run, "explore/2")
    assert len(exploited) == len(explored) == 16 and {each.source for each in explored} == {"sft"}
    check_choice(run, explored)
    check_costs(run, exploited, explored)
    assert {pair.rejected.sample for pair in pairs_of(run)} == {0, 1}, "pairs of both agents' episodes"
    check_learnt(run)
    noted = read_done(run / "stages" / "ensemble-3" / "DONE")["metrics"]
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


def check_costs(run: Path, exploited: list[Trajectory], explored: list[Trajectory]) -> None:
    """Actions that were offered and not taken count among the generated tokens, in the explorer's half."""
    discarded = [sum(turn.discarded_tokens for turn in each.turns) for each in explored]
    taken = [sum(len(turn.action_ids) for turn in each.turns) for each in explored]
    assert all(2 * kept < thrown < 5 * kept for kept, thrown in zip(taken, discarded, strict=True)), "of four"
    assert not any(turn.discarded_tokens for each in exploited for turn in each.turns)
    both = exploited + explored + played(run, "explore/3") + played(run, "explore/4")
    tokens = sum(len(turn.action_ids) + turn.discarded_tokens for each in both for turn in each.turns)
    assert costs_of(run).generated_tokens == tokens


def test_what_cannot_be_is_refused(tmp_path: Path, model: Path, command) -> None:
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    for section, says in (
        ({"explorer": {"candidates": 1}}, "set method.explorer.candidates above 1"),
        ({"explorer": {"temperature": 0.0}}, "needs method.explorer.temperature above 0"),
        ({"ensemble": {"heads": 1}}, "set method.ensemble.heads above 1"),
    ):
        write_recipe(path, model, run, {"name": "oparl", **section})
        command.fails("run", path, says=[says])
    write_recipe(path, model, run, {"name": "oparl", "contrast": {"agent_pairs": False}})
    command.fails("run", path, "tasks.experts_per_kind=4", says=["set method.contrast.agent_pairs to true"])
    command.fails("run", path, "tasks.experts_per_kind=0", says=["oparl needs experts"])
    write_recipe(path, model, run, {"name": "oparl", "adapters": {}})
    command.fails("run", path, says=["method.adapters needs", "model.lora is null"])
    command.fails(
        "run", path, SMALL[0], "model.lora.target_modules=[none]", says=["model.lora.target_modules"]
    )
    for idle, change in (
        ("method.contrast.min_gap=0.5", "set method.adapters to null"),
        ("method.adapters.monte_carlo.samples=2", "set method.adapters.estimate to rollouts"),
    ):
        command.fails("run", path, SMALL[0], idle, says=["no effect", change])
    assert not (run / "stages" / "sft").exists(), "before anything is trained"


def test_two_adapters_need_an_environment_that_answers_alike(tmp_path: Path, model: Path, command) -> None:
    run = tmp_path / "run"
    path = write_recipe(
        tmp_path / "recipe.yaml", model, run, {"name": "oparl", "adapters": {}}, restless=True
    )
    command.fails(
        "run", path, SMALL[0], says=["oparl needs an environment that answers the same actions alike"]
    )
    assert not (run / "stages" / "sft" / "DONE").exists()


def sampled(run: Path, number: int) -> dict[tuple[str, tuple[str, ...]], set[str]]:
    """(task id, actions before) -> actions that were sampled there."""
    states: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for each in played(run, f"continue/candidates-{number}"):
        states.setdefault((each.task.id, each.actions[:-1]), set()).add(each.actions[-1])
    return states


def test_two_adapters_learn_by_the_best_and_the_worst_estimate(
    tmp_path: Path, model: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = tmp_path / "run", tmp_path / "recipe.yaml"
    adapters = {"reset_every": 2, "states": 2, "least_gap": 0.0}
    method = {"name": "oparl", "iterations": 2, "adapters": adapters, "explorer": {"candidates": 3}, **FAST}
    write_recipe(path, model, run, method)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        interrupted_at(patch, "dpo-2", 2)
        command("run", path, *SMALL)
    command.succeeds("run", path, *SMALL)
    results = build_results(run)
    order = ["expert", "sft", "dev-sft"]
    for first, second in ((1, 2), (3, 4)):
        order += [f"explore-{first}", f"ensemble-{first}", f"candidates-{first}", f"contrast-{first}"]
        order += [f"dpo-{first}", f"explore-{second}", f"candidates-{second}", f"ensemble-{second}"]
        order += [f"contrast-{second}", f"dpo-{second}"]
    assert [stage["stage"] for stage in results["stages"]][: len(order)] == order
    assert set(results["splits"]["test"]["agents"]) == {"sft", "oparl-1", "oparl-2"}, "explorers never ship"

    sources = {
        phase: {each.source for each in played(run, phase)}
        for phase in (
            "explore/1",
            "explore/2",
            "explore/3",
            "explore/4",
            "continue/candidates-1",
            "continue/candidates-2",
            "continue/candidates-3",
            "continue/candidates-4",
        )
    }
    assert list(sources.values()) == [
        {"sft"},
        {"explorer-1"},
        {"oparl-1"},
        {"explorer-2"},
        {"sft"},
        {"sft"},
        {"explorer-1"},
        {"oparl-1"},
    ], "the explorer goes on from its own weights for two rounds"

    for number, extreme in ((1, np.max), (2, np.min)):
        ensemble, offered, pairs = ensemble_of(run, number), sampled(run, number), pairs_of(run, number)
        assert pairs and all(pair.kind == "action" for pair in pairs)
        for pair in pairs:
            assert context(pair) == len(pair.chosen.turns) - 1 == len(pair.rejected.turns) - 1
            best, worst = (
                extreme(ensemble.estimates(action_vectors(side)[-1:]))
                for side in (pair.chosen, pair.rejected)
            )
            before = (
                pair.chosen.turns[-2].observation
                if len(pair.chosen.turns) > 1
                else pair.chosen.messages[-1].content
            )
            others = [
                extreme(ensemble.estimates(action_vector(before, action)[None]))
                for action in offered[pair.task.id, pair.chosen.actions[:-1]]
            ]
            assert best > worst and best >= max(others) - 1e-9 and worst <= min(others) + 1e-9
        check_learnt(run, f"dpo-{number}")
    done = (run / "stages" / "test" / "DONE").read_text()
    command.succeeds("run", path, *SMALL)
    assert (run / "stages" / "test" / "DONE").read_text() == done


def test_actions_are_worth_what_rollouts_come_to(tmp_path: Path, model: Path, command) -> None:
    run, path = tmp_path / "run", tmp_path / "recipe.yaml"
    adapters = {
        "estimate": "rollouts",
        "states": 2,
        "monte_carlo": {"samples": 3, "temperature": 0.4},
        "deviations": 0.5,
    }
    method = {
        "name": "oparl",
        "adapters": adapters,
        "explorer": {"candidates": 3, "temperature": 0.4},
        **FAST,
    }
    method["sft"] = {**FAST["sft"], "epochs": 20, "batch_size": 8}
    command.succeeds("run", write_recipe(path, model, run, method, rooms=2), *SMALL)
    rewards: dict[tuple[str, tuple[str, ...]], list[float]] = {}
    for each in played(run, "continue/values-2"):
        given = sum(turn.log_probs is None for turn in each.turns)  # an episode records its own alone
        rewards.setdefault((each.task.id, each.actions[:given]), []).append(each.reward)
    assert {each.source for each in played(run, "continue/values-2")} == {"sft"}
    pairs = pairs_of(run, 2)
    assert pairs and "ensemble-2" not in [stage["stage"] for stage in build_results(run)["stages"]]
    for pair in pairs:
        bounds = []
        for side in (pair.chosen, pair.rejected):
            earned = rewards.get((side.task.id, side.actions))
            assert (earned is None) == (side.turns[-1].observation == "You take the coin.")
            low = 1.0 if earned is None else float(np.mean(earned) - 0.5 * np.std(earned))
            assert side.reward == pytest.approx(min(max(low, 0.0), 1.0))
            bounds.append(low)
        assert bounds[0] > bounds[1] + 0.05


def test_a_setting_decides_from_the_first_stage_that_reads_it(tmp_path: Path, model: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run", {"name": "oparl"})
    free, two = load_recipe(path), load_recipe(path, [SMALL[0], "method.adapters={}"])
    for field, alone, paired in (
        ("explore.temperature", "explore-1", "explore-1"),
        ("ensemble.prior", "ensemble-1", "ensemble-1"),
        ("explorer.candidates", "explore-2", "candidates-1"),
        ("adapters.states", "explore-2", "candidates-1"),
        ("contrast.min_gap", "contrast-1", "test"),
        ("dpo.beta", "dpo-1", "dpo-1"),
    ):
        assert (first_stage(f"method.{field}", free), first_stage(f"method.{field}", two)) == (alone, paired)
