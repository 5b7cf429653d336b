"""Packed products are the layers' own, for few rows and for many."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import tiny_model

from eto.cpu.packed_linear import FEW, pack_linear_layers


@pytest.mark.parametrize("rows", [1, 2, FEW, FEW + 1])
@pytest.mark.parametrize("bias", [False, True])
def test_products_are_those_of_the_layers(rows, bias):
    model = tiny_model(434, attention_bias=bias, mlp_bias=bias).eval()
    packed = copy.deepcopy(model)
    pack_linear_layers(packed)
    assert "forward" in packed.lm_head.__dict__
    ids = torch.arange(rows)[None] + 5
    with torch.inference_mode():
        found, expected = packed(input_ids=ids).logits, model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_other_types_are_left_alone():
    model = tiny_model(434).to(torch.bfloat16)
    pack_linear_layers(model)
    assert "forward" not in model.lm_head.__dict__
