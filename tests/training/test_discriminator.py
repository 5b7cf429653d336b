"""A discriminator on a tiny model: what it sees, what it learns, and that it resumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_loop import EVERY_STEP, Interrupt, episodes, interrupt, policy

from eto.credit.discriminator import accuracy
from eto.credit.monte_carlo import Branch
from eto.errors import InputError
from eto.settings.discriminator import DiscriminatorSettings
from eto.training.discriminator import EXPERT, discriminate, judgements, trials
from eto.training.policy_gradient import add_value_head

FAST = DiscriminatorSettings(epochs=12, learning_rate=3e-3, batch_size=4)


def branch(expert, at: int, action: str, sample: int) -> Branch:
    own = replace(expert.turns[at], action=action, observation="")
    episode = replace(expert, turns=(*expert.turns[:at], own), reward=0.0, source="sft", sample=sample)
    return Branch(expert, at, episode)


def inspected(count: int = 5) -> list[Branch]:
    """In each state of each expert: the expert's own action, and twice another."""
    return [
        branch(expert, at, action, 3 * at + number)
        for expert in episodes(count)
        for at in range(len(expert.turns))
        for number, action in enumerate((expert.turns[at].action, "wait", "wait"))
    ]


def test_one_tree_holds_an_expert_and_all_that_was_tried(tiny_path):
    learner = policy(tiny_path)
    tried = trials(learner, inspected(), 0.2, 0)
    assert [len(trial.branches) for trial in tried] == [6, 9, 12, 6, 9]
    assert sum(trial.held_out for trial in tried) == 1
    example = tried[0].example
    for leaf in example.tree.leaves:
        assert set(leaf.targets.tolist()) == {learner.tokenizer.eos_token_id}, (
            "the end of an action alone is judged"
        )
    assert example.weights[EXPERT].tolist() == [1.0, 1.0]
    # One of three samples is the expert's action, two are the other.
    assert [float(weight[0]) for weight in example.weights[1:]] == pytest.approx([1 / 3, 2 / 3] * 2)
    assert example.size == 4.0


def test_the_state_and_all_of_the_action_are_read(tiny_path):
    """The logit is that of the model's own forward pass over the plain tokens, before the last."""
    learner = policy(tiny_path)
    head = add_value_head(learner)
    head.weight.data.normal_()
    found = inspected(3)
    for each in judgements(learner, trials(learner, found, 0.4, 0)):
        for side, logit in ((each.branch.episode, each.logit), (each.branch.expert, each.expert_logit)):
            [sample] = learner.renderer.samples(replace(side, turns=side.turns[: each.branch.at + 1]))
            last = np.flatnonzero(np.asarray(sample.turns) >= 0)[-1]
            with torch.no_grad():
                row = torch.tensor([sample.ids[:last]])
                hidden = learner.model.model(row).last_hidden_state[0, -1]
                assert logit == pytest.approx(float(head(hidden)), abs=1e-3)


def test_it_tells_held_out_actions_apart(tiny_path):
    learner = policy(tiny_path)
    add_value_head(learner)
    tried = trials(learner, inspected(), 0.4, 0)
    assert accuracy(judgements(learner, tried)) == 0.5, "before training all logits are 0"
    steps = list(discriminate(learner, tried, FAST))
    assert steps[-1].figures["loss"] < steps[0].figures["loss"] == pytest.approx(np.log(2), abs=1e-5)
    judged = judgements(learner, tried)
    assert accuracy(each for each in judged if each.held_out) > 0.9
    same = [each for each in judged if not each.branch.differs]
    assert same and all(each.logit == each.expert_logit for each in same)


def test_an_interrupted_training_ends_as_the_undisturbed(tiny_path, tmp_path):
    def run(directory, at=None):
        learner = policy(tiny_path)
        add_value_head(learner)
        tried = trials(learner, inspected(), 0.2, 0)
        fit = discriminate(learner, tried, FAST, directory=directory, **EVERY_STEP)
        if at:
            with pytest.raises(Interrupt):
                interrupt(fit, at)
        else:
            assert [step.step for step in fit][-1] == 12
        return [each.logit for each in judgements(learner, tried)]

    wanted = run(None)
    run(tmp_path, at=5)
    assert run(tmp_path) == pytest.approx(wanted, abs=1e-5)


def test_one_expert_cannot_be_held_out(tiny_path):
    with pytest.raises(InputError, match="one is to be held out"):
        trials(policy(tiny_path), inspected(1), 0.2, 0)


def test_states_beyond_the_context_are_left_out(tiny_path):
    learner = policy(tiny_path, max_context=64)
    with pytest.warns(UserWarning, match="do not fit"):
        tried = trials(learner, inspected(), 0.2, 0)
    for trial in tried:
        turns = trial.example.tree.leaves[EXPERT].turns.tolist()
        assert turns == sorted({each.at for each in trial.branches})
    assert len(tried) >= 2 and sum(len(trial.branches) for trial in tried) < len(inspected())
