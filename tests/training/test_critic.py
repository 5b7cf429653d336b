"""The offline critic: what it learns, how it credits turns, and that the update follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_loop import episodes, policy

from eto.settings.critic import ClippedUpdateSettings, CriticSettings
from eto.training.critic import clipped_update, criticise, first_tokens, turn_advantages
from eto.training.policy_gradient import add_value_head, episode_examples


def test_first_tokens_by_hand():
    assert first_tokens(np.array([0, 0, 1, 1, 1, 3])).tolist() == [0, 2, 5]


def test_advantages_of_turns_by_hand(tiny_path):
    """Values 0.2 and 0.5 before two turns, reward 1: errors 0.3 and 0.5 with discount 1 and decay 0."""
    learner = policy(tiny_path)
    [(example, reward)] = episode_examples(learner, episodes(1))
    turns = example.tree.leaves[0].turns
    assert reward == 1.0 and set(turns) == {0, 1}
    values = np.where(turns == 0, 0.2, 0.5)
    [gained] = turn_advantages([(example, reward)], [values], 1.0, 0.0)
    assert len(gained) == len(turns)
    # 0.3 and 0.5, mean 0.4, deviation 0.1.
    assert gained[turns == 0] == pytest.approx(-1.0, abs=1e-5)
    assert gained[turns == 1] == pytest.approx(1.0, abs=1e-5)


def test_the_critic_tells_good_from_bad(tiny_path):
    learner = policy(tiny_path)
    given = [replace(each, reward=float(number % 2)) for number, each in enumerate(episodes(4))]
    examples = episode_examples(learner, given)
    add_value_head(learner)
    settings = CriticSettings(epochs=40, learning_rate=3e-3, batch_size=4, expectile=0.5)
    for _ in criticise(learner, examples, settings):
        pass
    values = [leaf for [leaf] in learner.values([example.tree for example, _ in examples])]
    last = [
        each[first_tokens(e.tree.leaves[0].turns)[-1]] for (e, _), each in zip(examples, values, strict=True)
    ]
    assert min(last[1], last[3]) > max(last[0], last[2]) + 0.3


def test_the_update_follows_the_sign_of_each_turn(tiny_path):
    """One trajectory: the first turn is pushed up and the second down."""
    learner = policy(tiny_path)
    examples = episode_examples(learner, episodes(1))
    tree, turns = examples[0][0].tree, examples[0][0].tree.leaves[0].turns
    [[old]] = learner.score([tree])
    gained = np.where(turns == 0, 1.0, -1.0).astype(np.float32)
    settings = ClippedUpdateSettings(epochs=1, learning_rate=1e-3, batch_size=1)
    [step] = list(clipped_update(learner, examples, [old], [gained], settings))
    assert step.figures["kl"] == pytest.approx(0, abs=1e-5)
    [[new]] = learner.score([tree])
    moved = new - old
    assert moved[turns == 0].sum() > 0 > moved[turns == 1].sum()
