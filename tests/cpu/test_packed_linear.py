"""Packed products are the layers' own, for few rows and for many."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import tiny_model

from eto.cpu import packed_linear
from eto.cpu.packed_linear import FEW, pack_linear_layers
from eto.models.private_interfaces import cpu_has_bfloat16


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("rows", [1, 2, FEW, FEW + 1])
@pytest.mark.parametrize("bias", [False, True])
def test_products_are_those_of_the_layers(monkeypatch, wide, rows, bias):
    monkeypatch.setattr(packed_linear, "cpu_has_avx512", lambda: wide)
    model = tiny_model(434, attention_bias=bias, mlp_bias=bias).eval()
    found, expected = logits_of_both(model, rows)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="the processor does not multiply in bfloat16")
@pytest.mark.parametrize("rows", [1, FEW + 1])
def test_products_in_bfloat16(rows):
    found, expected = logits_of_both(tiny_model(434).to(torch.bfloat16).eval(), rows)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.05)


def test_packed_weights_lie_in_the_place_of_the_layers(monkeypatch):
    """Of the copy alone: the model that it shares its weights with, and its own embedding, keep theirs."""
    monkeypatch.setattr(packed_linear, "cpu_has_avx512", lambda: True)
    model = tiny_model(434, tie_word_embeddings=True)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    sharing = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    pack_linear_layers(sharing)
    for module in sharing.modules():
        if type(module) is torch.nn.Linear:
            assert module.weight.untyped_storage().nbytes() == module.weight.element_size()
    assert torch.equal(sharing.get_input_embeddings().weight, model.get_input_embeddings().weight)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])


def test_types_that_the_processor_does_not_multiply_in_are_left_alone(monkeypatch):
    monkeypatch.setattr(packed_linear, "cpu_has_bfloat16", lambda: False)
    model = tiny_model(434).to(torch.bfloat16)
    pack_linear_layers(model)
    assert "forward" not in model.lm_head.__dict__


def logits_of_both(model, rows):
    packed = copy.deepcopy(model)
    pack_linear_layers(packed)
    assert "forward" in packed.lm_head.__dict__
    ids = torch.arange(rows)[None] + 5
    with torch.inference_mode():
        return packed(input_ids=ids).logits, model(input_ids=ids).logits
