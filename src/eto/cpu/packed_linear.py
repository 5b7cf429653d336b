"""Linear layers that multiply few rows fast: weights laid out beforehand for oneDNN.

A decoding step has one row a conversation. With so few, a general matrix product spends most of
its time on laying out the weights, at each call. fp32 on a CPU only; where the general product is
the faster one it stays: for many rows, as in a prompt, and for a single one, except for the
vocabulary.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eto.models.private_interfaces import packed_linear, packed_weight

FEW = 32
"""Rows up to which the packed product is the faster (`LOG.md`)."""
LARGE = 2**22
"""Weights from which it is so for a single row too."""


def pack_linear_layers(model: Any) -> None:
    """Give every fp32 linear layer of a `model` on a CPU packed weights beside its own.

    They are a copy: the layers must not be trained after that.
    """
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.dtype == torch.float32:
            packed = packed_weight(module.weight.detach(), FEW // 2)
            module.forward = partial(_linear, module, packed)  # type: ignore[method-assign]


def _linear(module: nn.Linear, packed: Tensor, inputs: Tensor) -> Tensor:
    rows = inputs.numel() // inputs.shape[-1]
    if 1 < rows <= FEW or (rows == 1 and module.weight.numel() >= LARGE):
        return packed_linear(inputs, packed, module.bias)
    return F.linear(inputs, module.weight, module.bias)
