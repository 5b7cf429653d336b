"""Mixed precision: weights kept in fp32, computing on a copy in another type.

The copy's weights, activations and gradients have the compute type throughout, as when
the agent acts. After each backward pass its gradients are added to the fp32 ones; after
each optimiser step it takes the new weights. Against casting inside the forward pass
(autocast) this saves the casts of weights and residuals for every batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from eto.policies.transformers import weights_in


class ComputeCopy:
    """`model` computes in `dtype` for `master`; both are one and the same object in fp32."""

    def __init__(self, master: Any, dtype: torch.dtype, *, recompute_activations: bool = False) -> None:
        self.model = master if dtype == torch.float32 else weights_in(copy.deepcopy(master), dtype)
        pairs = zip(master.parameters(), self.model.parameters(), strict=True)
        self._pairs = [(kept, used) for kept, used in pairs if kept is not used and kept.requires_grad]
        self._fresh = True
        self._recomputing = recompute_activations
        if recompute_activations:
            _switch(self.model, "enable")({"use_reentrant": False})

    def collect(self) -> None:
        """Move the copy's gradients to the master; call after each backward pass."""
        for kept, used in self._pairs:
            if kept.grad is None:
                kept.grad = torch.zeros_like(kept)
            if self._fresh:
                kept.grad.zero_() if used.grad is None else kept.grad.copy_(used.grad)
            elif used.grad is not None:
                kept.grad.add_(used.grad)
            used.grad = None
        self._fresh = False

    @torch.no_grad()
    def refresh(self) -> None:
        """Give the copy the master's weights and begin the gradients of a new step.

        The master's gradients stay allocated: fresh memory costs more than writing over it.
        """
        for kept, used in self._pairs:
            used.copy_(kept)
        if not self._pairs:
            self.model.zero_grad(set_to_none=True)
        self._fresh = True

    def release(self) -> None:
        """Leave the model as it was found: the gradients' memory is free again."""
        for kept, _ in self._pairs:
            kept.grad = None
        if self._recomputing:
            _switch(self.model, "disable")()


def _switch(model: Any, what: str) -> Callable[..., None]:
    """transformers' switch for recomputing activations, which newer versions call by another name."""
    newer, older = f"activation_checkpointing_{what}", f"gradient_checkpointing_{what}"
    return getattr(model, newer, None) or getattr(model, older)
