"""The CPU's fast paths against plain autograd: scores, losses, gradients and a whole fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_loop import episodes, pairs, policy, rows

from eto.algorithms.dpo import preference
from eto.algorithms.sft import _objective, cloning, sft_examples
from eto.experiment.compose import policy_of
from eto.recipe import Recipe
from eto.settings import DpoSettings, EnvironmentSettings, ModelSettings, SftSettings
from eto.training.backends import backend_for
from eto.training.backends.single import Single, plain_log_probs
from eto.training.batches import log_probs_of
from eto.training.computing import Computing

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("recompute", [False, True])
def test_losses_and_gradients(tiny_path, threads, recompute):
    threads(2)
    learner = policy(tiny_path)
    examples = sft_examples(learner, episodes(5))
    found = []
    for fast, kind in ((True, Computing), (False, Single)):
        with backend_for(learner.model, fast_paths=fast) as backend:
            assert isinstance(backend, kind)
            backend.begin(torch.float32, recompute_activations=recompute)
            figures = backend.gradients(examples, _objective, 200)
            gradients = [weight.grad.clone() for weight in learner.model.parameters()]
        assert all(weight.grad is None for weight in learner.model.parameters())
        found.append((figures, gradients))
    (figures, gradients), (plain_figures, plain_gradients) = found
    assert figures == pytest.approx(plain_figures, rel=1e-5)
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients)
    for one, other in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_scores(tiny_path):
    learner = policy(tiny_path)
    trees = [example.tree for example in sft_examples(learner, episodes(5))]
    fast = log_probs_of(learner.model, trees, torch.float32, 200)
    plain = plain_log_probs(learner.model, trees, torch.float32, 200)
    for one, other in zip(fast, plain, strict=True):
        for leaf, wanted in zip(one, other, strict=True):
            np.testing.assert_allclose(leaf, wanted, **CLOSE)


def test_the_recipe_switches_them_off(tiny_path):
    model = ModelSettings(path=str(tiny_path), dtype="float32", fast_paths=False)
    recipe = Recipe(name="plain", model=model, environment=EnvironmentSettings(name="scienceworld"))
    assert policy_of(recipe).fast_paths is False


def test_a_whole_fit(tiny_path):
    found = []
    for fast in (True, False):
        learner = policy(tiny_path)
        learner.fast_paths = fast
        steps = rows(cloning(learner, episodes(4), SftSettings(epochs=1)))
        steps += rows(preference(learner, pairs(3), DpoSettings(epochs=1)))
        losses = [row["loss"] for row in steps]
        found.append((losses, [weight.detach() for weight in learner.model.parameters()]))
    (losses, fast_weights), (plain_losses, plain_weights) = found
    assert losses == pytest.approx(plain_losses, rel=1e-5)
    for one, other in zip(fast_weights, plain_weights, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
