"""LOPE from recipe to report on the corridor: failures of equal reward become pairs by their closeness."""

from __future__ import annotations

from pathlib import Path

import pytest
from corridor import Corridor
from credit_runs import check_learnt, pairs_of, played, write_recipe

from benchmarks import closeness as ablation
from eto.credit.similarity import closeness, key_of, preferred_by_kind
from eto.data.files import read_json
from eto.data.formats import read_trajectories
from eto.data.hashed_words import turn_vectors
from eto.environments import SUITES
from eto.evaluation import build_results
from eto.experiment.run_records import read_done
from eto.models.encoder import TurnEncoder
from eto.settings.similarity import SimilaritySettings
from eto.types import Pair, Trajectory

EXPLORE = {"samples": 4, "temperature": 1.0}
PLAYING = {"samples": 3, "temperature": 1.0}


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def nearness_of(run: Path, iteration: int = 1) -> dict[tuple[str, int], float]:
    kept = read_json(run / "stages" / f"nearness-{iteration}" / "closeness.json")
    return {(task, int(sample)): near for task, each in kept.items() for sample, near in each.items()}


def ties(pairs: list[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair.chosen.reward == pair.rejected.reward]


def test_ties_become_pairs_by_closeness(tmp_path: Path, model: Path, command) -> None:
    method = {"name": "lope", "explore": EXPLORE, "similarity": {"ties": 2}}
    run, path = tmp_path / "run", tmp_path / "recipe.yaml"
    command.succeeds("run", write_recipe(path, model, run, method))
    experts = read_trajectories(run / "stages" / "expert" / "expert.jsonl")
    explored = played(run, "explore/1")
    [wanted] = preferred_by_kind([*experts, *explored], 1.0, 8).values()
    near = nearness_of(run)
    episodes = [each for each in explored if each.turns]
    assert [near[key_of(each)] for each in episodes] == closeness(episodes, wanted, turn_vectors)
    made = ties(pairs_of(run))
    assert made and len(made) < len(pairs_of(run)), "beside those by reward"
    for pair in made:
        assert pair.chosen.reward == 0 and pair.chosen.source == pair.rejected.source == "sft"
        assert near[key_of(pair.chosen)] > near[key_of(pair.rejected)] + 0.02
    assert all(sum(pair.task == each.task for each in made) <= 2 for pair in made)
    assert any(further(pair) for pair in made), "none of the nearer failures came further"
    check_learnt(run)
    results = build_results(run)
    assert set(results["splits"]["test"]["agents"]) == {"sft", "lope-1"}
    order = ["expert", "sft", "dev-sft", "explore-1", "nearness-1", "contrast-1", "dpo-1"]
    assert [stage["stage"] for stage in results["stages"]][: len(order)] == order
    noted = read_done(run / "stages" / "nearness-1" / "DONE")["metrics"]
    assert noted["preferred"] == {"walk": 8} and noted["without_preferred"] == []
    done = (run / "stages" / "test" / "DONE").read_text()
    command.succeeds("run", path)
    assert (run / "stages" / "test" / "DONE").read_text() == done
    check_ablation(run, tmp_path / "ties")


def check_ablation(run: Path, out: Path) -> None:
    """The benchmark counts what the run has, and goes on from its episodes without the ties."""
    [found] = ablation.rounds(run, SimilaritySettings())
    tied = {pair.task.id for pair in ties(pairs_of(run))}
    assert found.ties == len(tied) and found.added == len(tied - expert_tasks(run))
    assert found.tasks == 16 and found.episodes == len([t for t in played(run, "explore/1") if t.turns])
    assert (found.concordance is not None) is any_won_and_lost(played(run, "explore/1"))
    said = ablation.trained(run, out)
    assert "without ties, dev: sft" in said and "| with ties | without ties | reward |" in said
    assert not ties(pairs_of(out / "ties-0"))
    assert pairs_of(out / "ties-2") == pairs_of(run)


def any_won_and_lost(episodes: list[Trajectory]) -> bool:
    """Whether a task has episodes of different rewards."""
    rewards: dict[str, set[float]] = {}
    for each in episodes:
        rewards.setdefault(each.task.id, set()).add(each.reward)
    return any(len(found) > 1 for found in rewards.values())


def expert_tasks(run: Path) -> set[str]:
    """Tasks with a pair by reward."""
    return {pair.task.id for pair in pairs_of(run) if pair.chosen.reward > pair.rejected.reward}


def further(pair: Pair) -> bool:
    """Whether the chosen side followed the right way for longer."""
    way = [f"move {direction}" for direction in Corridor().way(pair.task)]
    right = []
    for side in (pair.chosen, pair.rejected):
        moves = [action for action in side.actions if action.startswith("move ")]
        right.append(next((n for n, step in enumerate(way) if moves[n : n + 1] != [step]), len(way)))
    return right[0] > right[1]


def test_without_ties_the_pairs_are_by_reward_alone(tmp_path: Path, model: Path, command) -> None:
    method = {"name": "lope", "explore": PLAYING, "similarity": {"ties": 0, "hardest": 1}}
    run = tmp_path / "run"
    command.succeeds("run", write_recipe(tmp_path / "recipe.yaml", model, run, method))
    near, explored = nearness_of(run), played(run, "explore/1")
    pairs = pairs_of(run)
    assert pairs and not ties(pairs)
    for pair in pairs:
        assert pair.chosen.source == "expert"
        lost = [each for each in explored if each.task == pair.task and each.reward < 1 and each.turns]
        assert near[key_of(pair.rejected)] == max(near[key_of(each)] for each in lost)
    assert any(pair.rejected.sample for pair in pairs), "not just the first failure"


def test_a_bonus_that_decays_with_an_encoder(tmp_path: Path, model: Path, command) -> None:
    similarity = {"bonus": 0.5, "bonus_decay": 0.0, "encoder": str(model), "least_difference": 0.1}
    method = {"name": "lope", "iterations": 2, "explore": PLAYING, "similarity": similarity}
    run = tmp_path / "run"
    command.succeeds("run", write_recipe(tmp_path / "recipe.yaml", model, run, method))
    own = [pair for pair in pairs_of(run) if pair.chosen.source == "sft"]
    assert ties(own), "r + alpha z(c) parts equal rewards"
    assert all(pair.chosen.reward >= pair.rejected.reward for pair in own)
    assert not ties(pairs_of(run, 2)), "the bonus is gone"
    encoder = TurnEncoder(str(model))
    first = own[0].chosen
    points = encoder(first)
    assert points.shape == (len(first.turns), 96) and abs((points**2).sum(1) - 1).max() < 1e-9
    experts = read_trajectories(run / "stages" / "expert" / "expert.jsonl")
    [wanted] = preferred_by_kind([*experts, *played(run, "explore/1")], 1.0, 8).values()
    assert nearness_of(run)[key_of(first)] == pytest.approx(closeness([first], wanted, encoder)[0], abs=1e-6)


def test_what_cannot_be_is_refused(tmp_path: Path, model: Path, command) -> None:
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    method = {"name": "lope", "similarity": {"encoder": str(tmp_path / "none")}}
    write_recipe(path, model, run, method)
    command.fails("run", path, says=["method.similarity.encoder", "none"])
    assert not (run / "stages" / "sft" / "DONE").exists(), "before anything is trained"
    write_recipe(path, model, run, {"name": "lope", "contrast": {"gap_weights": True}})
    command.fails("run", path, says=["gap_weights gives pairs of equal reward no weight"])
    write_recipe(path, model, run, {"name": "lope", "explore": {"samples": 1}})
    command.fails("run", path, says=["explore.samples above 1"])
    write_recipe(path, model, run, {"name": "lope"})
    command.fails("run", path, "method.similarity.bonus_decay=0.5", says=["no effect", "similarity.bonus"])
