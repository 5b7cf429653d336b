"""Preference training by adapters: the reference is the same model with adapters off, and there is no second
one."""

from __future__ import annotations

import gc

import pytest
import torch
from test_loop import LORA, pairs, policy

from eto.models.private_interfaces import storage_id
from eto.settings import DpoSettings
from eto.training.backends.single import plain_log_probs
from eto.training.preference import REFERENCE, preference

SETTINGS = DpoSettings(epochs=2, learning_rate=1e-2, batch_size=2)


def reference_and_trees(fit):
    return [example.references[REFERENCE] for example in fit.examples], [e.tree for e in fit.examples]


def largest_difference(one, other):
    return max(
        float(abs(a - b).max()) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("fast", [True, False])
def test_the_reference_is_the_model_with_adapters_off(tiny_path, fast):
    """Before training and after it: the log-probs that the loss takes are those of the frozen weights."""
    learner = policy(tiny_path, lora=LORA, fast_paths=fast)
    fit = preference(learner, pairs(4), SETTINGS)
    reference, trees = reference_and_trees(fit)
    steps = [step.figures for step in fit]
    assert steps[0]["margin"] == pytest.approx(0, abs=1e-5) and abs(steps[-1]["margin"]) > 0.1
    whole = policy(tiny_path)
    assert largest_difference(reference, plain_log_probs(whole.model, trees, torch.float32, 500)) < 1e-4
    with learner.model.disable_adapter():
        off = plain_log_probs(learner.model, trees, torch.float32, 500)
    assert largest_difference(reference, off) < 1e-4
    on = plain_log_probs(learner.model, trees, torch.float32, 500)
    assert largest_difference(reference, on) > 0.1, "adapters have moved"


@pytest.mark.parametrize("fast", [True, False])
def test_there_is_no_second_model(tiny_path, fast):
    """In the midst of training the large weights lie in memory once."""
    learner = policy(tiny_path, lora=LORA, fast_paths=fast)
    shapes = {tuple(w.shape) for w in learner.model.parameters() if not w.requires_grad and w.dim() == 2}
    own = {storage_id(w) for w in learner.model.parameters() if tuple(w.shape) in shapes}
    gc.collect()
    others = {storage_id(each) for each in _weights(shapes)} - own
    for step in preference(learner, pairs(4), SETTINGS):
        if step.step > 1:
            gc.collect()
            assert {storage_id(each) for each in _weights(shapes)} - own <= others
    assert step.step == 4


def _weights(shapes):
    """All parameters of these shapes that live, without those that memory is counted with."""
    found = [each for each in gc.get_objects() if type(each) is torch.nn.Parameter]
    return [each for each in found if tuple(each.shape) in shapes and not each.is_meta]
