"""Replicas share weights, and their gradients, summed where they arise, are the model's own."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from architectures import SUPPORTED, tiny_architecture
from tiny import tiny_model
from torch import nn

from eto.cpu.replicas import Replicas
from eto.cpu.weight_gradients import GradientSum
from eto.models.adapters import add_lora
from eto.models.dtype import weights_in
from eto.tokens.prefix_tree import build_tree
from eto.training.log_probs import TreeLogProbs

TREES = [
    build_tree([([*range(10, 40)], [-1] * 10 + [0] * 20), ([*range(10, 30), 5, 6], [-1] * 10 + [0] * 12)]),
    build_tree([([*range(100, 160)], [-1] * 10 + [0] * 50)]),
]


def backward(model, trees) -> None:
    torch.cat([leaf for tree in TreeLogProbs(model)(trees) for leaf in tree]).sum().backward()


def pass_through(replicas, lane, trees) -> None:
    with replicas.passing(lane) as back:
        back(torch.cat([leaf for tree in TreeLogProbs(replicas.models[lane])(trees) for leaf in tree]).sum())


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def autograd(model, trees) -> dict[str, torch.Tensor]:
    exact = copy.deepcopy(model)
    backward(exact, trees)
    return gradients(exact)


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        atol = max(1e-5, 1e-6 * gradient.abs().max().item())  # sums of another order round otherwise
        torch.testing.assert_close(found[name], gradient, atol=atol, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_word_embeddings": True}, {"pad_token_id": 12}, {"attention_bias": True, "mlp_bias": True}],
    ids=["untied", "tied", "padding", "biased"],
)
def test_gradients_of_several_passes_and_lanes_add_up(changes):
    model = tiny_model(434, **changes)
    replicas = Replicas(model, torch.float32, 2)
    for _ in range(2):  # the second step must not see the first one's
        for lane, tree in enumerate(TREES):
            pass_through(replicas, lane, [tree])
        pass_through(replicas, 1, TREES)
        replicas.reduce()
        assert_close(gradients(model), autograd(model, [*TREES, *TREES]))
        assert all(p.grad is None for replica in replicas.models for p in replica.parameters())


def test_bfloat16_is_summed_in_fp32():
    model = tiny_model(434)
    replicas = Replicas(model, torch.bfloat16)
    assert {p.dtype for p in replicas.models[0].parameters()} == {torch.bfloat16}
    for tree in TREES:
        pass_through(replicas, 0, [tree])
    replicas.reduce()
    found, expected = (
        torch.cat([g.flatten() for g in each.values()]) for each in (gradients(model), autograd(model, TREES))
    )
    assert found.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) < 0.06


def test_adapters_alone_are_trained():
    model = add_lora(tiny_model(434), rank=4, alpha=8.0, dropout=0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    replicas = Replicas(model, torch.float32)
    pass_through(replicas, 0, TREES)
    replicas.reduce()
    assert_close(gradients(model), autograd(model, TREES))
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_a_weight_that_one_step_did_not_use_has_no_gradient_of_the_step_before():
    model = tiny_model(434)
    replicas = Replicas(model, torch.float32, 2)
    pass_through(replicas, 1, TREES)
    replicas.reduce()
    assert max(float(g.abs().max()) for g in gradients(model).values()) > 1e-2
    replicas.reduce()
    assert max(float(g.abs().max()) for g in gradients(model).values()) == 0.0


@pytest.mark.parametrize("trained", [True, False])
def test_released_copies_and_gradients_take_no_memory(trained):
    """Without waiting for Python to find the circles that modules are in."""
    model = tiny_model(434)
    replicas = Replicas(model, torch.bfloat16, trained=trained)
    if trained:
        pass_through(replicas, 0, TREES)
        replicas.reduce()
    copies = list(replicas.models[0].parameters())
    sums = [weakref.ref(weight.grad) for weight in model.parameters() if trained]
    gc.disable()
    try:
        replicas.release()
        assert sum(weight.numel() for weight in copies) == 0
        assert not [each for each in sums if each() is not None]
    finally:
        gc.enable()
    assert all(p.grad is None and p.numel() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replicas_take_new_weights(dtype):
    model = tiny_model(434)
    replicas = Replicas(model, dtype, 2)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1.0
    replicas.sync_weights()
    for replica in replicas.models:
        for kept, used in zip(model.parameters(), replica.parameters(), strict=True):
            assert torch.equal(used, kept.to(dtype))
    one, other = (next(replica.parameters()) for replica in replicas.models)
    assert one.data_ptr() == other.data_ptr(), "one set of weights for all"


def test_sums_by_hand():
    total = GradientSum(torch.full((2, 2), 9.0))
    total.add_product(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    assert total.tensor.tolist() == [[3.0, 2.0], [1.0, 1.0]], "what was there before is overwritten"
    total.add_rows(torch.tensor([1, 1]), torch.tensor([[1.0, 2.0], [10.0, 20.0]]))
    assert total.tensor.tolist() == [[3.0, 2.0], [12.0, 23.0]]
    total.add(torch.ones(2, 2))
    assert total.tensor.tolist() == [[4.0, 3.0], [13.0, 24.0]]
    rows = GradientSum(torch.full((2, 1), 9.0))
    rows.add_rows(torch.tensor([0]), torch.tensor([[5.0]]))
    assert rows.tensor.tolist() == [[5.0], [0.0]]


def test_the_model_itself_is_left_as_it_was():
    model = tiny_model(434)
    Replicas(model, torch.float32, 2)
    assert all("forward" not in module.__dict__ for module in model.modules())
    assert isinstance(model.lm_head, nn.Linear) and model.config._attn_implementation == "sdpa"


def test_casting_weights_keeps_the_frequencies_of_positions():
    model = tiny_model(434)
    wanted = model.model.rotary_emb.inv_freq.clone()
    cast = weights_in(copy.deepcopy(model), torch.bfloat16)
    assert {p.dtype for p in cast.parameters()} == {torch.bfloat16}
    for each in (cast, Replicas(model, torch.bfloat16).models[0]):
        assert each.model.rotary_emb.inv_freq.dtype == torch.float32
        assert torch.equal(each.model.rotary_emb.inv_freq, wanted)


@pytest.mark.parametrize("name", SUPPORTED)
def test_gradients_of_every_architecture_are_autograds(name):
    """What is summed in turns and computed again, against plain autograd on the same trees."""
    kind, _, changes = SUPPORTED[name]
    model = tiny_architecture(kind, changes)
    replicas = Replicas(model, torch.float32, 2)
    replicas.begin_step([[30], [60]])
    for lane, tree in enumerate(TREES):
        pass_through(replicas, lane, [tree])
    replicas.reduce()
    found = gradients(model)
    exact = copy.deepcopy(model)
    for tree in TREES:
        backward(exact, [tree])
    for weight, other in gradients(exact).items():
        expected = torch.zeros_like(found[weight]) if other is None else other
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found[weight] / scale, expected / scale, atol=1e-5, rtol=1e-4, msg=weight)


def test_a_weight_that_is_used_outside_of_its_layer_counts_too():
    model = tiny_model(434)
    replicas = Replicas(model, torch.float32, 2)
    replicas.begin_step([[30], [60]])
    for lane, tree in enumerate(TREES):
        replica = replicas.models[lane]
        with replicas.passing(lane) as back:
            outside = replica.model.layers[0].mlp.up_proj.weight.square().sum()
            back(
                torch.cat([leaf for each in TreeLogProbs(replica, owned=True)([tree]) for leaf in each]).sum()
                + outside
            )
    replicas.reduce()
    expected = autograd(model, TREES)
    name = "model.layers.0.mlp.up_proj.weight"
    expected[name] = expected[name] + 4 * model.model.layers[0].mlp.up_proj.weight.detach()
    assert_close(gradients(model), expected)
