"""Branches of an expert's trajectory, and what pairs their values give, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eto.credit.monte_carlo import (
    Branch,
    Cut,
    Valued,
    action_pairs,
    branches,
    cuts,
    mean_reward,
    partings,
    step_pairs,
)
from eto.types import Message, StopReason, Task, Trajectory, Turn

TASK = Task("toy/1", "toy", "kind", "train")


def episode(actions: str, reward: float, task: Task = TASK) -> Trajectory:
    """Actions are letters; each observation says what was done so far."""
    turns = tuple(Turn(action, actions[: n + 1]) for n, action in enumerate(actions))
    return Trajectory(task, (Message("user", "Do it."),), turns, reward, None, StopReason.TERMINATED, "sft")


EXPERT = episode("abcd", 1.0)


def test_an_expert_is_left_before_each_turn_or_group():
    assert [cut.turns for cut in cuts([EXPERT])] == [0, 1, 2, 3]
    assert [cut.turns for cut in cuts([EXPERT, episode("xyz", 1.0)], every=3)] == [0, 3, 0]
    assert not any(cut.ends for cut in cuts([EXPERT])) and Cut(EXPERT, 4).ends


def test_a_prefix_keeps_the_ids_of_the_same_tokenizer_alone():
    turns = tuple(replace(turn, action_ids=(1, 2), log_probs=(-1.0, -1.0)) for turn in EXPERT.turns)
    mine = replace(EXPERT, turns=turns, tokenizer="one")
    kept = Cut(mine, 2).prefix("one").turns
    assert [turn.action_ids for turn in kept] == [(1, 2)] * 2
    assert not any(turn.log_probs for turn in kept), "sampled by another episode"
    for other in ("other", None):
        assert Cut(mine, 2).prefix(other).turns == EXPERT.turns[:2]
    assert Cut(mine, 0).prefix("one").turns == () and Cut(mine, 2).prefix("one").task == TASK


def test_only_an_episode_in_the_experts_state_is_a_branch():
    good, early = episode("abxx", 0.0), episode("ab", 0.0)
    elsewhere = replace(good, turns=(replace(good.turns[0], observation="another room"), *good.turns[1:]))
    asked = replace(good, messages=(Message("user", "Do something."),))
    starts = [Cut(EXPERT, 2), Cut(EXPERT, 0)]
    found, others = branches(starts, [[good, early, elsewhere, asked], [elsewhere]])
    assert found == [Branch(EXPERT, 2, good), Branch(EXPERT, 0, elsewhere)] and others == 3


def test_the_value_of_a_state_is_the_mean_of_what_follows():
    follow = [episode("abx", reward) for reward in (1.0, 0.0, 0.5, 0.25, 0.0)]
    assert mean_reward(follow) == pytest.approx(0.35)
    broken = replace(follow[0], stop=StopReason.ENVIRONMENT_FAILED)
    assert mean_reward([broken, follow[2]]) == 0.5 and mean_reward([broken]) is None


def test_what_parts_differs_in_action_and_reward():
    same, tie, small, worse = (
        Branch(EXPERT, 1, episode(actions, reward))
        for actions, reward in (("abxx", 0.0), ("axcd", 1.0), ("ax", 0.95), ("ax", 0.0))
    )
    assert partings([same, tie, small, worse]) == [small, worse]
    assert partings([same, tie, small, worse], 0.1) == [worse]


def test_single_actions_are_paired_by_how_the_episodes_end():
    lost, won = Branch(EXPERT, 2, episode("abxyz", 0.2)), Branch(episode("abcd", 0.5), 1, episode("aw", 1.0))
    again = Branch(EXPERT, 2, episode("abxq", 0.0))
    one, other = action_pairs([lost, again, won])
    assert one.chosen.actions == ("a", "b", "c") and one.rejected.actions == ("a", "b", "x")
    assert [turn.loss for turn in one.chosen.turns] == [False, False, True]
    assert [turn.loss for turn in one.rejected.turns] == [False, False, True]
    assert (one.kind, one.shared_turns, one.chosen.reward, one.rejected.reward) == ("action", 2, 1.0, 0.2)
    assert other.chosen.actions == ("a", "w") and other.rejected.actions == ("a", "b")
    assert action_pairs([lost, again, won], both_directions=False) == [one]
    assert action_pairs([lost, won], min_gap=0.6) == [one]


@pytest.mark.parametrize(
    ("reward", "expert_value", "value", "chosen"),
    [
        (0.0, 0.8, 0.2, "expert"),
        (0.0, 0.75, 0.5, ""),  # the gap of values is the threshold, not above it
        (0.0, 0.2, 0.8, ""),  # by value better, by outcome worse
        (1.0, 1.0, 0.0, ""),  # outcomes tie
        (0.995, 1.0, 0.0, ""),
    ],
)
def test_steps_are_paired_by_value_and_outcome(reward, expert_value, value, chosen):
    branch = Branch(EXPERT, 1, episode("axyz", reward))
    pairs = step_pairs([Valued(branch, expert_value, value)], threshold=0.25, min_gap=0.01)
    assert [pair.chosen.actions for pair in pairs] == ([("a", "b", "c", "d")] if chosen else [])
    for pair in pairs:
        assert pair.kind == "suffix" and pair.shared_turns == 1
        assert [turn.loss for turn in pair.rejected.turns] == [False, True, True, True]
        assert pair.rejected.actions == ("a", "x", "y", "z")


def test_an_agent_that_does_better_is_chosen_where_both_directions_count():
    branch = Branch(episode("abcd", 0.4), 1, episode("axy", 1.0))
    valued = [Valued(branch, 0.1, 0.9)]
    [pair] = step_pairs(valued, threshold=0.3)
    assert pair.chosen.actions == ("a", "x", "y") and pair.rejected.actions == ("a", "b", "c", "d")
    assert step_pairs(valued, threshold=0.3, both_directions=False) == []


def test_a_side_that_begins_the_other_gives_no_pair():
    branch = Branch(EXPERT, 1, episode("ab", 0.0))
    assert step_pairs([Valued(branch, 1.0, 0.0)], threshold=0.1) == []


def test_the_state_after_own_turns_ends_with_the_episode():
    branch = Branch(EXPERT, 1, episode("axy", 0.0))
    assert branch.after() == Cut(branch.episode, 2) and not branch.after().ends
    assert branch.after(5) == Cut(branch.episode, 3) and branch.after(5).ends
