"""Adapters trained with the learned optimiser: they learn, resume bit for bit, and errors are told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_loop import EVERY_STEP, FAST, LORA, Interrupt, changed, episodes, interrupt, policy, rows, weights

from eto.errors import InputError
from eto.training.cloning import cloning, sft
from eto.training.learned_optimiser import STATE_BYTES, LearnedOptimiser, UpdateRule, load_rule, save_rule
from eto.training.loop import decisive

LEARNED = FAST.replace(optimiser="learned", learning_rate=2e-3, epochs=8)


def adapters(path):
    return policy(path, lora=LORA)


def test_adapters_learn(tiny_path):
    fit = cloning(adapters(tiny_path), episodes(), LEARNED)
    assert isinstance(fit.optimiser.algorithm, LearnedOptimiser)
    assert fit.optimiser.algorithm.rule.digest() == load_rule().digest()
    losses = [row["loss"] for row in rows(fit)]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])


@pytest.mark.parametrize("interrupted", [1, 5, 24])
def test_an_interrupted_training_ends_as_the_undisturbed_bit_for_bit(tiny_path, tmp_path, interrupted):
    undisturbed = adapters(tiny_path)
    sft(undisturbed, episodes(), LEARNED)
    with pytest.raises(Interrupt):
        fit = cloning(adapters(tiny_path), episodes(), LEARNED, directory=tmp_path, **EVERY_STEP)
        interrupt(fit, interrupted)
    resumed = adapters(tiny_path)
    fit = cloning(resumed, episodes(), LEARNED, directory=tmp_path, **EVERY_STEP)
    assert [row["step"] for row in rows(fit)] == list(range(interrupted, 25))
    assert not changed(weights(undisturbed.model), weights(resumed.model))


def test_memory_is_planned_for_its_state(tiny_path):
    learner = adapters(tiny_path)
    trained = sum(w.numel() for w in learner.model.parameters() if w.requires_grad)
    fit = cloning(learner, episodes(), LEARNED)
    assert fit.memory.optimiser_state == STATE_BYTES * trained
    next(iter(fit))
    kept = sum(state["hidden"].nbytes for state in fit.optimiser.algorithm.state.values())
    assert kept == fit.memory.optimiser_state
    assert cloning(adapters(tiny_path), episodes(), FAST).memory.optimiser_state == 8 * trained


def test_a_state_of_another_rule_is_refused(tiny_path, tmp_path):
    save_rule(UpdateRule(), tmp_path / "rule.safetensors")
    with pytest.raises(Interrupt):
        interrupt(cloning(adapters(tiny_path), episodes(), LEARNED, directory=tmp_path, **EVERY_STEP), 4)
    for other in (
        LEARNED.replace(optimiser_file=str(tmp_path / "rule.safetensors")),
        LEARNED.replace(optimiser="adamw"),
    ):
        with pytest.raises(InputError, match="other data or with other settings"):
            cloning(adapters(tiny_path), episodes(), other, directory=tmp_path)


def test_states_of_adamw_keep_their_fingerprint():
    """Of trainings that were begun before there was another optimiser."""
    values = (4, 3e-3, 2, None, "cosine", 0.1, 0.0, 1.0, True, 7)
    assert decisive(FAST, 7) == values


def test_only_adapters_are_trained(tiny_path):
    with pytest.raises(InputError, match="adapters only") as caught:
        cloning(policy(tiny_path), episodes(), LEARNED)
    assert caught.value.where == "optimiser" and "model.lora" in caught.value.hint


def test_a_missing_file_is_told(tiny_path, tmp_path):
    file = str(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="is not a learned optimiser") as caught:
        cloning(adapters(tiny_path), episodes(), LEARNED.replace(optimiser_file=file))
    assert caught.value.where == file


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"optimiser": "learned", "weight_decay": 0.1}, "weight_decay is AdamW's"),
        ({"optimiser_file": "rule.safetensors"}, "optimiser_file has no effect"),
        ({"optimiser": "adam"}, "'adamw8bit' or 'learned'"),
        ({"optimiser": "learned", "optimiser_file": ""}, "at least 1 character"),
    ],
)
def test_settings_that_do_not_go_together(changes, problem):
    with pytest.raises(InputError, match=problem):
        FAST.replace(**changes)


def test_base_weights_stay(tiny_path):
    learner = adapters(tiny_path)
    frozen = {n: p.detach().clone() for n, p in learner.model.named_parameters() if not p.requires_grad}
    sft(learner, episodes(), LEARNED.replace(epochs=1))
    after = dict(learner.model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())
