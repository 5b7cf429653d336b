"""Gradients of weight matrices, summed in fp32 where they arise.

Autograd would write each layer's gradient to fresh memory and then add it to the sum; the
gradient of an embedding it fills with zeros up to the size of the vocabulary first. Here a linear
layer multiplies straight into its sum and an embedding adds the rows that were looked up. In
bfloat16 a product is rounded, as autograd's is, and summed in fp32. All lanes add to one sum, in turns
(`eto.cpu.turns`); an input that is cheap to compute again is not kept (`eto.cpu.recomputed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eto.cpu.recomputed import sources_of
from eto.cpu.turns import Turn

BLOCK = 2**22
"""Numbers of a product in another type than its sum that are in memory at a time."""


class GradientSum:
    """The gradient of one weight over the passes of an optimiser step, in fp32."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.fresh = True
        """Nothing was added since the step began; what the tensor holds is of the step before."""

    def add(self, gradient: Tensor) -> None:
        """Add a gradient of the weight's shape."""
        self.tensor.copy_(gradient) if self.fresh else self.tensor.add_(gradient)
        self.fresh = False

    def add_product(self, left: Tensor, right: Tensor) -> None:
        """Add `left` `[rows, n]` @ `right` `[n, columns]`, which have one type."""
        if left.dtype == self.tensor.dtype:
            torch.addmm(self.tensor, left, right, beta=0.0 if self.fresh else 1.0, out=self.tensor)
        else:  # block by block: all of a vocabulary's would be what takes most at the peak
            rows = max(1, BLOCK // right.shape[1])
            for part, block in zip(left.split(rows), self.tensor.split(rows), strict=True):
                block.copy_(part @ right) if self.fresh else block.add_(part @ right)
        self.fresh = False

    def add_rows(self, numbers: Tensor, rows: Tensor) -> None:
        """Add each of `rows` `[n, columns]` to the row of its number `[n]`."""
        if self.fresh:
            self.tensor.zero_()
        self.tensor.index_add_(0, numbers, rows.to(self.tensor.dtype))
        self.fresh = False


class Lane:
    """Where a lane is: which pass it makes, and in which half of it."""

    number: int | None = None
    """Of the pass; None for one that waits for nobody."""
    passes = 0
    """Made so far, this one included."""
    forward = True
    """Whether the forward half is under way, in which uses of weights are counted."""


class LaneSum:
    """A lane's access to a gradient: its own, or all lanes', who add to it in turns."""

    def __init__(self, total: GradientSum, turn: Turn | None, lane: Lane) -> None:
        self.total = total
        self._turn, self._lane = turn, lane
        self._pass = self._uses = 0

    def __deepcopy__(self, _memo: dict) -> LaneSum:
        """Copies of a model that share its weights share their sums."""
        return self

    def used(self) -> None:
        """The weight is used in the forward pass, and its gradient will be added once for that."""
        if not self._lane.forward or not torch.is_grad_enabled():
            return
        if self._pass != self._lane.passes:
            self._pass, self._uses = self._lane.passes, 0
        self._uses += 1

    def add(self, gradient: Tensor) -> None:
        """As `GradientSum.add`."""
        with self._adding():
            self.total.add(gradient)

    def add_product(self, left: Tensor, right: Tensor) -> None:
        """As `GradientSum.add_product`."""
        if left.dtype != self.total.tensor.dtype and self.total.tensor.numel() <= BLOCK:
            self.add(left @ right)  # multiplied before its turn comes
            return
        with self._adding():
            self.total.add_product(left, right)

    def add_rows(self, numbers: Tensor, rows: Tensor) -> None:
        """As `GradientSum.add_rows`."""
        with self._adding():
            self.total.add_rows(numbers, rows)

    def _adding(self) -> AbstractContextManager[None]:
        self._uses -= 1
        if self._turn is None:
            return nullcontext()
        return self._turn.of(self._lane.number, last=self._uses == 0)


def sum_directly(model: Any, sums: Mapping[nn.Parameter, LaneSum]) -> None:
    """Let the linear layers and embeddings of `model` whose weights are in `sums` add to these.

    Their weights then get no `grad`; every other parameter does.
    """
    for module in model.modules():
        layer_type = type(module)
        if layer_type is nn.Linear and module.weight in sums:
            module.forward = partial(_linear, module, sums[module.weight])
        elif layer_type is nn.Embedding and module.weight in sums and _plain(module):
            module.forward = partial(_embedding, module, sums[module.weight])


def summed_directly(model: Any) -> set[int]:
    """Ids of the weights of `model` that get no `grad` under `sum_directly`, all modules that have them being
    linear layers and embeddings."""
    found: dict[int, bool] = {}
    for module in model.modules():
        kind = type(module)
        direct = kind is nn.Linear or (kind is nn.Embedding and _plain(module))
        for name, weight in module.named_parameters(recurse=False):
            found[id(weight)] = found.get(id(weight), True) and direct and name == "weight"
    return {each for each, direct in found.items() if direct}


def _plain(module: nn.Embedding) -> bool:
    return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse


def _linear(module: nn.Linear, total: LaneSum, inputs: Tensor) -> Tensor:
    total.used()
    return _Linear.apply(inputs, module.weight, module.bias, total)


def _embedding(module: nn.Embedding, total: LaneSum, ids: Tensor) -> Tensor:
    total.used()
    return _Embedding.apply(ids, module.weight, module.padding_idx, total)


class _Linear(torch.autograd.Function):
    """x W' + b, with dW = g'x added to its sum."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, total: LaneSum) -> Tensor:
        context.again = None
        kept: tuple[Tensor, ...] = (inputs,)
        if (found := sources_of(inputs)) is not None:
            context.again, kept = found
            context.again.add_user()
        context.save_for_backward(weight, *kept)
        context.total, context.biased = total, bias is not None
        return F.linear(inputs, weight, bias)

    @staticmethod
    def backward(context: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        weight, *kept = context.saved_tensors
        inputs = kept[0] if context.again is None else context.again.value(*kept)
        rows = given.reshape(-1, given.shape[-1])
        context.total.add_product(rows.t(), inputs.reshape(-1, inputs.shape[-1]))
        back = given @ weight if context.needs_input_grad[0] else None
        return back, None, rows.sum(0) if context.biased else None, None


class _Embedding(torch.autograd.Function):
    """Rows of a matrix; a padding row gets no gradient, as with `nn.Embedding`."""

    @staticmethod
    def forward(context: Any, ids: Tensor, weight: Tensor, padding: int | None, total: LaneSum) -> Tensor:
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
