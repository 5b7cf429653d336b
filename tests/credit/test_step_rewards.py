"""Step rewards, held-out accuracy and pairs by a discriminator, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from test_monte_carlo import EXPERT, TASK, episode

from eto.credit.discriminator import Judged, accuracy, best_over_worst, step_reward
from eto.credit.monte_carlo import Branch
from eto.data.formats import read_pairs, write_pairs

LOG3 = math.log(3.0)


def judged(actions: str, at: int, logit: float, expert_logit: float = -LOG3, *, held_out: bool = False):
    return Judged(Branch(EXPERT, at, episode(actions, 0.0)), logit, expert_logit, held_out)


def test_the_reward_is_minus_log_d():
    assert step_reward(0.0) == pytest.approx(math.log(2))
    assert step_reward(LOG3) == pytest.approx(-math.log(3 / 4))
    assert step_reward(-LOG3) == pytest.approx(-math.log(1 / 4))
    assert judged("x", 0, -LOG3).reward == step_reward(-LOG3)
    assert step_reward(-1000.0) == 1000.0 and step_reward(1000.0) == 0.0


def test_accuracy_counts_both_sides_of_actions_that_differ():
    right = judged("x", 0, 1.0, -1.0)
    deceived = judged("y", 0, -1.0, -1.0)
    undecided = judged("z", 0, 0.0, 1.0)
    alike = judged("a", 0, 5.0, 5.0)
    assert accuracy([right]) == 1.0
    assert accuracy([deceived]) == 0.5, "one answer for all is a guess"
    assert accuracy([undecided]) == 0.25
    assert accuracy([right, deceived, undecided, alike]) == pytest.approx((2 + 1 + 0.5) / 6)
    assert accuracy([alike]) is None and accuracy([]) is None


def test_of_each_state_the_best_is_over_the_worst():
    """Rewards log 4, log 2 and log 4/3 in one state: log 3 apart at most; nothing to choose in the other."""
    candidates = [judged("x", 0, 0.0), judged("y", 0, LOG3), judged("z", 0, -LOG3), judged("aw", 1, 0.0)]
    [pair] = best_over_worst(candidates, min_gap=1.0)
    assert (pair.chosen.actions, pair.rejected.actions) == (("z",), ("y",))
    assert (pair.kind, pair.shared_turns, pair.task) == ("action", 0, TASK)
    assert pair.chosen.reward == pytest.approx(3 / 4) and pair.rejected.reward == pytest.approx(1 / 4)
    assert best_over_worst(candidates, min_gap=1.1) == []


def test_one_action_sampled_twice_is_no_pair():
    assert best_over_worst([judged("x", 0, 1.0), judged("x", 0, 1.0)]) == []


def test_loss_falls_on_the_action_alone():
    [pair] = best_over_worst([judged("abxy", 2, 1.0), judged("abz", 2, -1.0)])
    assert pair.chosen.actions == ("a", "b", "z") and pair.rejected.actions == ("a", "b", "x")
    assert [turn.loss for turn in pair.chosen.turns] == [False, False, True]
    assert pair.shared_turns == 2


def test_pairs_that_the_environment_would_turn_round_are_kept_on_disk(tmp_path):
    """A pair file refuses a chosen side of lower reward; theirs is the discriminator's."""
    paid = Branch(EXPERT, 0, replace(episode("x", 1.0), success=True, score=7.0))
    pairs = best_over_worst([Judged(paid, 2.0, 0.0, False), judged("y", 0, -2.0)])
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    [pair] = read_pairs(tmp_path / "pairs.jsonl")
    assert pair.rejected.actions == ("x",) and pair.rejected.reward < pair.chosen.reward
