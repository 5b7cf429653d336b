"""What computes losses and gradients for the training loop, chosen by device.

- `base`: the interface
- `core_groups`: the CPU's fast paths, groups of cores side by side
- `sharded`: several processes, as the loop sees them
- `sharded_config`: how they are launched, by torchrun or an accelerate config
- `sharded_launch`: the processes: launched, asked and ended together
- `sharded_layout`: a model copied (DDP) or divided (FSDP2) over them
- `sharded_rank`: what one of them computes
- `sharded_worker`: the program that each of them runs
- `single`: plain autograd on any device: the reference
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eto.models.frozen import is_quantised
from eto.tokens.prefix_tree import Tree
from eto.training.backends import core_groups, single
from eto.training.backends.base import Backend as Backend
from eto.training.backends.base import ScoringProgress as ScoringProgress


def backend_for(model: Any, *, fast_paths: bool = True, dropout: bool = True) -> Backend:
    """The CPU's fast paths for a model on a CPU, unless `fast_paths` is False; else plain autograd."""
    if fast_paths and _fast(model):
        return core_groups.CoreGroupBackend(model, dropout=dropout)
    return single.Single(model, dropout=dropout)


def log_probs(
    model: Any,
    trees: Sequence[Tree],
    dtype: torch.dtype,
    tokens: int | None = None,
    *,
    fast_paths: bool = True,
    values: bool = False,
    progress: ScoringProgress | None = None,
) -> list[list[np.ndarray]]:
    """Log-probs `[agent tokens]` of every leaf of every tree without gradients, by the same choice;
    `values`: those of the model's value head instead.

    tokens: tree tokens that pass at the same time; by default as many as the device takes well. progress: is
    told after each pass how many trees are scored, and how many there are.
    """
    fast = fast_paths and _fast(model)
    score = core_groups.grouped_log_probs if fast else single.plain_log_probs
    return score(model, trees, dtype, tokens or micro_batch_tokens(model), values=values, progress=progress)


def micro_batch_tokens(model: Any) -> int:
    """Tree tokens that pass at the same time, where settings do not say."""
    return core_groups.MICRO_BATCH_TOKENS if _on_cpu(model) else single.MICRO_BATCH_TOKENS


def _fast(model: Any) -> bool:
    """The CPU's fast paths do not know weights in 4 bits."""
    return _on_cpu(model) and not is_quantised(model)


def _on_cpu(model: Any) -> bool:
    return next(model.parameters()).device.type == "cpu"
