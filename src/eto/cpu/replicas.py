"""The model as training computes with it: once for each lane, in the compute type.

Master weights stay in fp32. All replicas share one set of weights: the master's own in fp32, a
copy of it in another type, in which activations and gradients are then held throughout, as when
the agent acts. Against casting inside the forward pass (autocast) that saves the casts of weights
and residuals for every batch. Each lane sums its gradients in fp32; after the passes of a step the
lanes' sums become the master's gradient, added up in one order, the first one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eto.cpu.recomputed import recompute_cheaply
from eto.cpu.turns import Passes, Turn
from eto.cpu.weight_gradients import GradientSum, Lane, LaneSum, sum_directly, summed_directly
from eto.models.architecture import switch_recomputing


class Replicas:
    """`models[lane]` computes in `dtype` for `master`, which takes the gradients and the updates."""

    def __init__(
        self,
        master: Any,
        dtype: torch.dtype,
        lanes: int = 1,
        *,
        trained: bool = True,
        recompute_activations: bool = False,
    ) -> None:
        """`trained`: False without any gradients."""
        self._kept = list(master.parameters())
        self._used = [_in_type(weight.detach(), dtype) for weight in self._kept]
        self.models: list[Any] = []
        self._passes = Passes(lanes)
        self._lanes = [Lane() for _ in range(lanes)]
        self._sums: list[list[tuple[nn.Parameter, LaneSum]]] = []
        direct = summed_directly(master)
        self._totals: list[tuple[nn.Parameter, list[GradientSum]]] = []
        self._turns: list[Turn | None] = []
        for kept in self._kept:
            if trained and kept.requires_grad:
                shared = id(kept) in direct
                sums = [GradientSum(torch.empty_like(kept)) for _ in range(1 if shared else lanes)]
                self._totals.append((kept, sums))
                self._turns.append(Turn(self._passes) if shared else None)
        self._late: list[dict[int, GradientSum]] = [{} for _ in range(lanes)]
        """Gradients, by the weight's number, of uses outside of the layers that share a sum."""
        for lane in range(lanes):
            self._add_lane(master, trained, lane)
            if recompute_activations:
                switch_recomputing(self.models[-1], "enable")({"use_reentrant": False})

    def _add_lane(self, master: Any, trained: bool, lane: int) -> None:
        own = [
            nn.Parameter(used, requires_grad=trained and kept.requires_grad)
            for kept, used in zip(self._kept, self._used, strict=True)
        ]
        memo = {id(kept): weight for kept, weight in zip(self._kept, own, strict=True)}
        model = copy.deepcopy(master, memo)
        weights = [weight for weight in own if weight.requires_grad]
        sums = [
            LaneSum(totals[lane % len(totals)], turn, self._lanes[lane])
            for (_, totals), turn in zip(self._totals, self._turns, strict=True)
        ]
        sum_directly(model, dict(zip(weights, sums, strict=True)))
        if trained:
            recompute_cheaply(model)
        self.models.append(model)
        self._sums.append(list(zip(weights, sums, strict=True)))

    def begin_step(self, tokens: Sequence[Sequence[int]]) -> None:
        """Announce the passes of each lane until `reduce`, by their tokens: they then add up in one order."""
        self._passes.begin(tokens)

    @contextmanager
    def passing(self, lane: int) -> Iterator[Callable[[Tensor], None]]:
        """A pass of a lane, which gives what runs its backward half from a scalar.

        Raises within it what it raises; the other lanes then end without waiting.
        """
        at = self._lanes[lane]
        with self._passes.one_of(lane) as number:
            at.number, at.forward = number, True
            at.passes += 1

            def backward(loss: Tensor) -> None:
                at.forward = False
                loss.backward()
                self._accumulate(lane)

            yield backward

    def _accumulate(self, lane: int) -> None:
        """Add what a backward pass left in `grad` to the lane's sums."""
        for number, (weight, total) in enumerate(self._sums[lane]):
            if weight.grad is None:
                continue
            if self._turns[number] is None:
                total.total.add(weight.grad)
            else:
                late = self._late[lane].setdefault(number, GradientSum(torch.empty_like(total.total.tensor)))
                late.add(weight.grad)
            weight.grad = None

    @torch.no_grad()
    def reduce(self) -> None:
        """Make the lanes' sums the master's gradient, and begin a new step.

        The sums stay allocated: fresh memory costs more than writing over it.
        """
        for number, (kept, totals) in enumerate(self._totals):
            late = [each.pop(number) for each in self._late if number in each]
            used = [total for total in (*totals, *late) if not total.fresh]
            if not used:
                used = totals[:1]
                used[0].tensor.zero_()
            for other in used[1:]:
                used[0].tensor.add_(other.tensor)
            kept.grad = used[0].tensor
            for total in totals:
                total.fresh = True

    @torch.no_grad()
    def sync_weights(self) -> None:
        """Take the master's weights after an update."""
        for kept, used in zip(self._kept, self._used, strict=True):
            if used.data_ptr() != kept.data_ptr():
                used.copy_(kept)

    def release(self) -> None:
        """Leave the master as it was found, and free copies of weights and gradients.

        At once: modules hold each other in circles, which Python finds late.
        """
        for model in self.models:
            for weight in model.parameters():
                weight.data = weight.data.new_empty(0)
        for kept, totals in self._totals:
            kept.grad = None
            for total in totals:
                total.tensor = total.tensor.new_empty(0)
        for each in (self.models, self._used, self._totals, self._sums):
            each.clear()


def keep_little(model: Any) -> None:
    """Let `model`, which nobody trains, keep of a pass what a lane keeps; it may be without storage."""
    sums = {
        weight: LaneSum(GradientSum(weight.detach()), None, Lane())
        for weight in model.parameters()
        if weight.requires_grad
    }
    sum_directly(model, sums)
    recompute_cheaply(model)


def gradient_sums(model: Any, lanes: int) -> int:
    """Numbers in the gradients of `lanes` lanes that train `model`."""
    direct = summed_directly(model)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return sum(weight.numel() * (1 if id(weight) in direct else lanes) for weight in trained)


def _in_type(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`weight` itself where it has the type; buffers are left alone, see `weights_in`."""
    return weight.to(dtype) if weight.is_floating_point() else weight
