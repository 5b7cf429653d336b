"""What computes losses and gradients for the training loop, chosen by device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eto.training.backends.base import Backend
from eto.training.backends.single import Single, plain_log_probs
from eto.training.batches import log_probs_of
from eto.training.computing import Computing
from eto.training.trees import Tree


def backend_for(model: Any, *, fast_paths: bool = True, dropout: bool = True) -> Backend:
    """The CPU's fast paths for a model on a CPU, unless `fast_paths` is False; else plain autograd."""
    if fast_paths and _on_cpu(model):
        return Computing(model, dropout=dropout)
    return Single(model, dropout=dropout)


def log_probs(
    model: Any, trees: Sequence[Tree], dtype: torch.dtype, tokens: int, *, fast_paths: bool = True
) -> list[list[np.ndarray]]:
    """Log-probs `[agent tokens]` of every leaf of every tree without gradients, by the same choice."""
    score = log_probs_of if fast_paths and _on_cpu(model) else plain_log_probs
    return score(model, trees, dtype, tokens)


def _on_cpu(model: Any) -> bool:
    return next(model.parameters()).device.type == "cpu"
