"""What the backward pass computes again: recognised by what it computes, and equal to autograd's own."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import tiny_model
from torch import nn
from torch.testing import assert_close
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from eto.cpu.recomputed import Again, is_gated_mlp, mark, norm_shift, recompute_cheaply, sources_of


class Doubled(LlamaRMSNorm):
    def forward(self, hidden_states):
        return 2 * super().forward(hidden_states)


class Scaled(LlamaMLP):
    def forward(self, x):
        return super().forward(x) * 0.5


def mlp(kind: type = LlamaMLP, **changes):
    return kind(tiny_model(434, **changes).config)


def test_norms_are_told_by_what_they_compute():
    assert norm_shift(LlamaRMSNorm(8)) == 0.0
    assert norm_shift(Gemma3RMSNorm(8)) == 1.0
    assert norm_shift(LlamaRMSNorm(8).to("meta")) == 0.0
    for other in (Doubled(8), nn.LayerNorm(8), nn.Linear(3, 3)):
        assert norm_shift(other) is None


def test_gated_mlps_are_told_by_what_they_compute():
    assert is_gated_mlp(mlp()) and is_gated_mlp(mlp(hidden_act="gelu_pytorch_tanh", mlp_bias=True))
    assert is_gated_mlp(mlp().to("meta"))
    assert not is_gated_mlp(mlp(Scaled))
    more = mlp()
    more.dropout = nn.Dropout(0.1)
    assert not is_gated_mlp(more) and not is_gated_mlp(nn.Linear(3, 3))


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma3RMSNorm])
@pytest.mark.parametrize("frozen", [False, True])
def test_norms_are_exact(kind, frozen):
    torch.manual_seed(0)
    norm = kind(16)
    nn.init.normal_(norm.weight)
    norm.weight.requires_grad_(not frozen)
    again = copy.deepcopy(norm)
    recompute_cheaply(again)
    assert "forward" in vars(again)
    assert_same(norm, again, torch.randn(2, 5, 16) * 3)


@pytest.mark.parametrize("act", ["silu", "gelu_pytorch_tanh", "relu"])
def test_gated_products_are_exact(act):
    torch.manual_seed(0)
    plain = mlp(hidden_act=act)
    again = copy.deepcopy(plain)
    recompute_cheaply(again)
    assert "forward" in vars(again)
    assert_same(plain, again, torch.randn(1, 7, 64) * 3)


def test_a_product_is_not_written_over_its_own_factor():
    torch.manual_seed(0)
    plain = mlp(hidden_act="linear")
    again = copy.deepcopy(plain)
    recompute_cheaply(again)
    assert_same(plain, again, torch.randn(1, 7, 64))


def assert_same(plain, again, inputs) -> None:
    found = []
    for module in (plain, again):
        leaf = inputs.clone().requires_grad_()
        out = module(leaf)
        (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
        found.append((out, leaf.grad, [weight.grad for weight in module.parameters()]))
    (out, to_inputs, to_weights), (out_again, to_inputs_again, to_weights_again) = found
    assert torch.equal(out, out_again), "values are the module's own"
    assert_close(to_inputs_again, to_inputs, atol=1e-5, rtol=1e-5)
    for one, other in zip(to_weights_again, to_weights, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_value_that_was_changed_is_kept():
    source = torch.ones(3)
    value = mark(source * 2, lambda given: given * 2, source)
    again, sources = sources_of(value)
    assert torch.equal(again.value(*sources), value)
    value.add_(1)
    assert sources_of(value) is None and sources_of(source) is None


def test_a_value_is_computed_once_for_all_its_users():
    calls = []
    again = Again(lambda given: calls.append(given) or given + 1)
    for _ in range(3):
        again.add_user()
    values = [again.value(torch.zeros(2)) for _ in range(3)]
    assert len(calls) == 1 and all(value is values[0] for value in values)
    again.add_user()
    again.value(torch.zeros(2))
    assert len(calls) == 2, "not kept beyond the last user"
