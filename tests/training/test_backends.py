"""The CPU's fast paths against plain autograd: scores, losses, gradients and a whole fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_loop import episodes, pairs, policy, rows

from eto.errors import EngineFailure
from eto.experiment.compose import policy_of
from eto.experiment.recipe import Recipe
from eto.settings import DpoSettings, EnvironmentSettings, ModelSettings, SftSettings
from eto.training.backends import backend_for
from eto.training.backends.core_groups import CoreGroupBackend, grouped_log_probs
from eto.training.backends.single import Single, plain_log_probs
from eto.training.cloning import _objective, cloning, sft_examples
from eto.training.preference import preference

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("recompute", [False, True])
def test_losses_and_gradients(tiny_path, threads, recompute):
    threads(2)
    learner = policy(tiny_path)
    examples = sft_examples(learner, episodes(5))
    found = []
    for fast, kind in ((True, CoreGroupBackend), (False, Single)):
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
    told: dict[str, list[tuple[int, int]]] = {"fast": [], "plain": []}
    progress = {name: lambda done, total, name=name: told[name].append((done, total)) for name in told}
    fast = grouped_log_probs(learner.model, trees, torch.float32, 200, progress=progress["fast"])
    plain = plain_log_probs(learner.model, trees, torch.float32, 200, progress=progress["plain"])
    for steps in told.values():
        assert len(set(steps)) > 1 and steps == sorted(steps) and steps[-1] == (len(trees), len(trees))
    for one, other in zip(fast, plain, strict=True):
        for leaf, wanted in zip(one, other, strict=True):
            np.testing.assert_allclose(leaf, wanted, **CLOSE)


def test_scores_of_weights_that_blew_up_are_told(tiny_path):
    learner = policy(tiny_path)
    trees = [example.tree for example in sft_examples(learner, episodes(2))]
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight.mul_(1e40)
    with pytest.raises(EngineFailure, match="a log-prob under this model is not a number"):
        learner.score(trees)


class Everything:
    """A loss of all that a pass returns."""

    entropy = True

    def __init__(self):
        self.seen = {}

    def __call__(self, example, outputs):
        [leaf] = outputs
        at = (len(leaf.log_probs), int(example.tree.leaves[0].targets.sum()))
        self.seen[at] = tuple(each.detach().clone() for each in (leaf.log_probs, leaf.values, leaf.entropy))
        return (leaf.log_probs * leaf.values - leaf.entropy).sum(), {}


def with_value_head(learner):
    torch.manual_seed(3)
    learner.model.value_head = torch.nn.Linear(learner.model.config.hidden_size, 1)
    return learner


def test_values_and_entropies(tiny_path, threads):
    """Both backends against the model's own forward pass, and against each other in their gradients."""
    threads(2)
    learner = with_value_head(policy(tiny_path))
    examples, found = sft_examples(learner, episodes(4)), []
    for fast in (True, False):
        objective = Everything()
        with backend_for(learner.model, fast_paths=fast) as backend:
            backend.begin(torch.float32)
            backend.gradients(examples, objective, 200)
            found.append((objective.seen, {n: p.grad.clone() for n, p in learner.model.named_parameters()}))
    (seen, gradients), (plain_seen, plain_gradients) = found
    assert gradients["value_head.weight"].abs().max() > 1e-3
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain_gradients[name], **CLOSE)
    for example in examples:
        [leaf] = example.tree.leaves
        ids = torch.from_numpy(example.tree.ids)[None]
        with torch.no_grad():
            own = learner.model(input_ids=ids, output_hidden_states=True)
            states = own.hidden_states[-1][0, leaf.sources]
            logs = own.logits[0, leaf.sources].log_softmax(-1)
            values = learner.model.value_head(states)[:, 0]
        targets = torch.from_numpy(leaf.targets)
        wanted = (logs.gather(-1, targets[:, None])[:, 0], values, -(logs.exp() * logs).sum(-1))
        key = (len(leaf.targets), int(leaf.targets.sum()))
        for one, other in zip(seen[key], wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        for one, other in zip(plain_seen[key], wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_value_head_is_trained_and_not_saved(tiny_path, tmp_path):
    learner = with_value_head(policy(tiny_path))
    before = learner.model.value_head.weight.detach().clone()
    settings = SftSettings(epochs=1, learning_rate=1e-3, weight_decay=0.0)
    rows(learner.fit(sft_examples(learner, episodes(2)), Everything(), settings))
    assert not torch.equal(before, learner.model.value_head.weight)
    learner.save(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "value_head" in name]
    assert learner.model.value_head is not None


@pytest.mark.parametrize("fast", [True, False])
def test_both_compute_in_bfloat16(tiny_path, fast):
    """In half precision each is near fp32: within the type's own rounding of losses and gradients."""
    learner = policy(tiny_path)
    examples, found = sft_examples(learner, episodes(4)), []
    for kind in (torch.float32, torch.bfloat16):
        with backend_for(learner.model, fast_paths=fast) as backend:
            backend.begin(kind)
            figures = backend.gradients(examples, _objective, 400)
            gradients = torch.cat([weight.grad.flatten() for weight in learner.model.parameters()])
        assert gradients.dtype == torch.float32
        found.append((figures["loss"], gradients))
    (loss, gradients), (rounded_loss, rounded) = found
    assert rounded_loss != loss and rounded_loss == pytest.approx(loss, rel=2e-2)
    assert torch.cosine_similarity(gradients, rounded, dim=0) > 0.99


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
