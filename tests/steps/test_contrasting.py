"""The pairs of a round, and why there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eto.credit.similarity import PairRules, pairs_by_value
from eto.experiment.lab import Lab
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.experiment.watch import Silent
from eto.settings import ContrastSettings, DpoSettings
from eto.steps.contrasting import contrast
from eto.types import Message, StopReason, Task, Trajectory, Turn

TASK = Task("toy/1", "toy", "any", "train")
OWN = ContrastSettings(agent_pairs=True)


def episode(actions: str, reward: float, sample: int = 0, prompt: str = "Find it.") -> Trajectory:
    turns = tuple(Turn(action, "seen", reward) for action in actions)
    said = (Message("user", prompt),)
    return Trajectory(TASK, said, turns, reward, None, StopReason.OUT_OF_TURNS, "sft", sample=sample)


@pytest.fixture
def lab(tmp_path: Path, tiny_policy):
    recipe = parse_recipe("{name: a, environment: {name: b}}")
    with Run.open(tmp_path / "run", recipe) as run:
        yield Lab(recipe, run, None, {}, [], tiny_policy, None, Silent())


def test_a_pair_that_two_ways_give_counts_once(lab: Lab) -> None:
    explored = [episode("ab", 1.0), episode("ac", 0.0, sample=1)]
    values = {(TASK.id, 0): 1.5, (TASK.id, 1): -0.5}
    by_value = pairs_by_value(explored, values, PairRules(per_task=1, least=0.0, margin_turns=5))
    assert len(by_value) == 1
    pairs, why = contrast(lab, [], explored, OWN, DpoSettings(), further=by_value)
    assert pairs == by_value and why == ""


def test_why_there_are_no_pairs(lab: Lab) -> None:
    """By what became of the episodes, and the same once it is read back."""
    best = episode("ab", 0.5)
    explored = [best, episode("ac", 0.5, 1), episode("d", 0.0, 2, "Find more."), episode("", 0.0, 3)]
    told = "own episodes: 1 tied, 1 with another prompt than the other side's, 1 without a turn"
    for _ in range(2):
        assert contrast(lab, [], explored, OWN, DpoSettings()) == ([], told)
    won = [episode("ac", 1.0, 1)]
    rules = ContrastSettings(both_directions=False)
    _, why = contrast(lab, [replace(best, source="expert")], won, rules, DpoSettings(), 2)
    assert "1 better than the expert, which contrast.both_directions leaves out" in why
    assert contrast(lab, [], [], OWN, DpoSettings(), 3)[1] == "nothing differs in reward"
