"""Practice from recipe to report on a small game: tasks without experts, own successes and own pairs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from coin_game import RECIPE
from pytest import approx

from eto.data.formats import read_pairs, read_trajectories
from eto.data.pair_scores import FILE as SCORES
from eto.data.pair_scores import read_scores
from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.experiment.run_records import read_done
from eto.methods.practice import shortest_successes
from eto.types import Pair, Phase

CLONING = RECIPE["method"]["sft"]
PRACTICE = {
    "name": "practice",
    "sft": CLONING | {"epochs": 5},
    "least_reward": 0.9,
    "explore": {"samples": 4, "temperature": 1.0},
    "rft": CLONING | {"epochs": 2},
}
TASKS = {"train_per_kind": 48, "experts_per_kind": 36, "dev_per_kind": 8, "test_per_kind": 8}


def _recipe(directory: Path, model: Path, method: dict[str, Any], **tasks: Any) -> Path:
    values = deepcopy(dict(RECIPE))
    values |= {"run_directory": str(directory / "run"), "method": PRACTICE | method, "tasks": TASKS | tasks}
    values["model"]["path"] = str(model)
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_tasks_without_experts_are_practised(tmp_path: Path, model: Path, command) -> None:
    path, run = _recipe(tmp_path, model, {}), tmp_path / "run"
    command.succeeds("run", path)

    experts = {t.task.id for t in read_trajectories(run / "stages" / "expert" / "expert.jsonl")}
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        explored = store.get(Phase.explore(1))
    played = {t.task.id for t in explored}
    assert len(experts) == 36 and len(played) == 48 and experts < played
    won = shortest_successes(explored, 0.9)
    assert {t.task.id for t in won} - experts, "no task without an expert was won"
    done = read_done(run / "stages" / "rft-1" / "DONE")["metrics"]
    assert done["trajectories"] == len(experts) + len(won) and done["tokens"] > 0
    pairs = read_pairs(run / "stages" / "contrast-1" / "pairs.jsonl")
    assert pairs and all(pair.chosen.source == pair.rejected.source == "sft" for pair in pairs)
    assert all(pair.chosen.reward > pair.rejected.reward + 0.1 for pair in pairs)
    assert {pair.task.id for pair in pairs} - experts
    assert set(build_results(run)["splits"]["test"]["agents"]) == {"sft", "rft-1", "practice-1"}
    _scored_and_reported(run, pairs, command)


def _scored_and_reported(run: Path, pairs: list[Pair], command: Any) -> None:
    """The log-probs of a round's pairs under the agent that played them are those that it noted then."""
    path = run / "stages" / "dpo-1" / SCORES
    command.succeeds("score-pairs", run, "--before", "sft", "--limit", "5")
    scores = read_scores(path)
    assert sorted(scores) == list(range(min(5, len(pairs))))
    for place, each in scores.items():
        assert (each.before, each.after, each.task) == ("sft", "practice-1", pairs[place].task.id)
        for side, played in ((each.chosen, pairs[place].chosen), (each.rejected, pairs[place].rejected)):
            assert side.before == approx([sum(turn.log_probs) for turn in played.turns], abs=0.02)
            assert side.tokens == tuple(len(turn.log_probs) for turn in played.turns)
    assert any(abs(each.chosen.change) > 1e-4 for each in scores.values()), "another model after training"
    command.succeeds("score-pairs", run)
    scores = read_scores(path)
    assert len(scores) == len(pairs) and scores[0].before == "rft-1"
    assert "--before" in command.fails("score-pairs", run, "--before", "practice-1")
    assert "docx" in command.fails("report", run, "--format", "docx")
    command.succeeds("report", run, "--episodes", "2", "--format", "html,csv")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("Training from rft-1 to practice-1 changed the log-prob") == min(2, len(pairs))
    assert "<mark" in page, "the tokens that carry loss"
    assert (run / "tables" / "test-agents.csv").read_text().startswith("agent,tasks,average reward,")
