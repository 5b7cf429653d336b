"""The interface between the training loop and what computes for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from eto.training.example import Example, Objective

ScoringProgress = Callable[[int, int], None]
"""Is told how many trees are scored, and how many there are; by one thread at a time."""


class Backend(Protocol):
    """Leaves gradients in the model that it was made for; a context manager that frees its memory."""

    @property
    def concurrent(self) -> int:
        """Forward passes that run at the same time, for planning memory."""

    @property
    def plain(self) -> bool:
        """Whether it keeps for the backward pass what torch's own functions keep, for planning memory."""

    def begin(self, dtype: torch.dtype, *, recompute_activations: bool = False) -> None:
        """Prepare to compute in `dtype`. Called once, before the first gradient."""

    def gradients(self, batch: Sequence[Example], objective: Objective, tokens: int) -> dict[str, float]:
        """Leave the gradient of the mean loss over `batch` in the model; returns the mean figures.

        tokens: tree tokens that pass at the same time. Raises `EngineFailure` if the loss is not a number.
        """

    def sync_weights(self) -> None:
        """Take the model's weights after an optimiser step."""

    def __enter__(self) -> Backend: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...
