"""Linear layers that multiply few rows fast: weights laid out beforehand for oneDNN.

A decoding step has one row a conversation. With so few, a general matrix product spends most of
its time on laying out the weights, at each call. With AVX-512 the packed product is the faster for
any number of rows, in fp32 and in bfloat16; without it, in fp32 and for few rows alone, but more
than one except for the vocabulary (`LOG.md`). Which one is taken depends on the processor and never
on a clock, so the same run acts alike each time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eto.models.private_interfaces import cpu_has_avx512, cpu_has_bfloat16, packed_linear, packed_weight

FEW = 32
"""Rows up to which the packed product is the faster without AVX-512."""
LARGE = 2**22
"""Weights from which it is so for a single row too."""


def pack_linear_layers(model: Any) -> None:
    """Give every linear layer of a `model` on a CPU packed weights: beside its own, or in their place where
    only they are used. Layers in a type that the processor does not multiply in stay as they are.

    The packed weights are a copy: the layers must not be trained after that.
    """
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return
    types = {torch.float32} | ({torch.bfloat16} if cpu_has_bfloat16() else set())
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.dtype in types:
            _pack(module, packed_weight(module.weight.detach(), FEW // 2))


def _pack(module: nn.Linear, packed: Tensor) -> None:
    if not cpu_has_avx512():
        module.forward = partial(_for_few, module, packed)  # type: ignore[method-assign]
        return
    module.forward = partial(_packed, packed, module.bias)  # type: ignore[method-assign]
    # Of the same type and shape, but without memory.
    nothing = module.weight.detach().new_zeros(()).expand(module.weight.shape)
    module.weight = nn.Parameter(nothing, requires_grad=False)


def _packed(packed: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    return packed_linear(inputs, packed, bias)


def _for_few(module: nn.Linear, packed: Tensor, inputs: Tensor) -> Tensor:
    rows = inputs.numel() // inputs.shape[-1]
    if 1 < rows <= FEW or (rows == 1 and module.weight.numel() >= LARGE):
        return packed_linear(inputs, packed, module.bias)
    return F.linear(inputs, module.weight, module.bias)
