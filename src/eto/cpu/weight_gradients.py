"""Gradients of weight matrices, summed in fp32 where they arise.

Autograd would write each layer's gradient to fresh memory and then add it to the sum; the
gradient of an embedding it fills with zeros up to the size of the vocabulary first. Here a linear
layer multiplies straight into its sum and an embedding adds the rows that were looked up. In
bfloat16 a product is rounded, as autograd's is, and summed in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GradientSum:
    """The gradient of one weight over the passes of an optimiser step, in fp32."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.fresh = True
        """Nothing was added since the step began; what the tensor holds is of the step before."""

    def __deepcopy__(self, _memo: dict) -> GradientSum:
        """Copies of a model that share its weights share their sums."""
        return self

    def add(self, gradient: Tensor) -> None:
        """Add a gradient of the weight's shape."""
        self.tensor.copy_(gradient) if self.fresh else self.tensor.add_(gradient)
        self.fresh = False

    def add_product(self, left: Tensor, right: Tensor) -> None:
        """Add `left` `[rows, n]` @ `right` `[n, columns]`."""
        if left.dtype != self.tensor.dtype:
            self.add(left @ right)
            return
        torch.addmm(self.tensor, left, right, beta=0.0 if self.fresh else 1.0, out=self.tensor)
        self.fresh = False

    def add_rows(self, numbers: Tensor, rows: Tensor) -> None:
        """Add each of `rows` `[n, columns]` to the row of its number `[n]`."""
        if self.fresh:
            self.tensor.zero_()
        self.tensor.index_add_(0, numbers, rows.to(self.tensor.dtype))
        self.fresh = False


def sum_directly(model: Any, sums: Mapping[nn.Parameter, GradientSum]) -> None:
    """Let the linear layers and embeddings of `model` whose weights are in `sums` add to these.

    Their weights then get no `grad`; every other parameter does.
    """
    for module in model.modules():
        layer_type = type(module)
        if layer_type is nn.Linear and module.weight in sums:
            module.forward = partial(_linear, module, sums[module.weight])
        elif layer_type is nn.Embedding and module.weight in sums and _plain(module):
            module.forward = partial(_embedding, module, sums[module.weight])


def _plain(module: nn.Embedding) -> bool:
    return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse


def _linear(module: nn.Linear, total: GradientSum, inputs: Tensor) -> Tensor:
    return _Linear.apply(inputs, module.weight, module.bias, total)


def _embedding(module: nn.Embedding, total: GradientSum, ids: Tensor) -> Tensor:
    return _Embedding.apply(ids, module.weight, module.padding_idx, total)


class _Linear(torch.autograd.Function):
    """x W' + b, with dW = g'x added to its sum."""

    @staticmethod
    def forward(
        context: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, total: GradientSum
    ) -> Tensor:
        context.save_for_backward(inputs, weight)
        context.total, context.biased = total, bias is not None
        return F.linear(inputs, weight, bias)

    @staticmethod
    def backward(context: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = context.saved_tensors
        rows = given.reshape(-1, given.shape[-1])
        context.total.add_product(rows.t(), inputs.reshape(-1, inputs.shape[-1]))
        back = given @ weight if context.needs_input_grad[0] else None
        return back, None, rows.sum(0) if context.biased else None, None


class _Embedding(torch.autograd.Function):
    """Rows of a matrix; a padding row gets no gradient, as with `nn.Embedding`."""

    @staticmethod
    def forward(context: Any, ids: Tensor, weight: Tensor, padding: int | None, total: GradientSum) -> Tensor:
        context.save_for_backward(ids)
        context.padding, context.total = padding, total
        return F.embedding(ids, weight)

    @staticmethod
    def backward(context: Any, given: Tensor) -> tuple[None, ...]:
        [ids] = context.saved_tensors
        numbers, rows = ids.reshape(-1), given.reshape(-1, given.shape[-1])
        if context.padding is not None:
            wanted = numbers != context.padding
            numbers, rows = numbers[wanted], rows[wanted]
        context.total.add_rows(numbers, rows)
        return None, None, None, None
