"""The computing copy: gradients and weights go where they belong, and stay close to fp32."""

from __future__ import annotations

import copy

import torch
from tiny import tiny_model

from eto.policies.transformers import weights_in
from eto.training.log_probs import TreeLogProbs
from eto.training.precision import ComputeCopy
from eto.training.trees import build_tree

TREES = [
    build_tree([([*range(10, 40)], [-1] * 10 + [0] * 20), ([*range(10, 30), 5, 6], [-1] * 10 + [0] * 12)]),
    build_tree([([*range(100, 160)], [-1] * 10 + [0] * 50)]),
]


def backward(scorer: TreeLogProbs, trees) -> None:
    torch.cat([leaf for tree in scorer(trees) for leaf in tree]).sum().backward()


def gradients(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_fp32_computes_on_the_model_itself():
    model = tiny_model(434)
    computing = ComputeCopy(model, torch.float32)
    assert computing.model is model
    backward(TreeLogProbs(model), TREES)
    before = gradients(model)
    computing.collect()
    assert torch.equal(gradients(model), before)
    computing.refresh()
    assert all(p.grad is None for p in model.parameters())


def test_gradients_of_several_passes_add_up_in_fp32():
    model = tiny_model(434)
    exact = copy.deepcopy(model)
    backward(TreeLogProbs(exact), TREES)
    computing = ComputeCopy(model, torch.bfloat16)
    scorer = TreeLogProbs(computing.model)
    for _ in range(2):  # the second step must not see the first one's
        for tree in TREES:
            backward(scorer, [tree])
            computing.collect()
        found, expected = gradients(model), gradients(exact)
        assert found.dtype == torch.float32
        assert all(p.grad is None for p in computing.model.parameters())
        assert float((found - expected).norm() / expected.norm()) < 0.06
        computing.refresh()


def test_a_weight_that_one_step_did_not_use_has_no_gradient_of_the_step_before():
    model = tiny_model(434)
    computing = ComputeCopy(model, torch.bfloat16)
    backward(TreeLogProbs(computing.model), TREES)
    computing.collect()
    computing.refresh()
    computing.collect()
    assert float(gradients(model).abs().max()) == 0.0


def test_released_gradients_take_no_memory():
    model = tiny_model(434)
    computing = ComputeCopy(model, torch.bfloat16)
    backward(TreeLogProbs(computing.model), TREES)
    computing.collect()
    computing.release()
    assert all(p.grad is None for p in model.parameters())


def test_refresh_takes_new_weights():
    model = tiny_model(434)
    computing = ComputeCopy(model, torch.bfloat16)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1.0
    computing.refresh()
    for kept, used in zip(model.parameters(), computing.model.parameters(), strict=True):
        assert torch.equal(used, kept.to(torch.bfloat16))


def test_casting_weights_keeps_the_frequencies_of_positions():
    model = tiny_model(434)
    wanted = model.model.rotary_emb.inv_freq.clone()
    cast = weights_in(copy.deepcopy(model), torch.bfloat16)
    assert {p.dtype for p in cast.parameters()} == {torch.bfloat16}
    assert cast.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(cast.model.rotary_emb.inv_freq, wanted)
