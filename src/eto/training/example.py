"""An example and its loss: what a training step adds up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from eto.errors import EngineFailure
from eto.tokens.prefix_tree import Tree
from eto.training.log_probs import TokenOutputs, TreeLogProbs


@dataclass(frozen=True, slots=True)
class Example:
    """One tree and what the loss needs to know of it."""

    tree: Tree
    weights: tuple[np.ndarray, ...]
    """For each leaf `[agent tokens]` weights."""
    size: float = 1.0
    """Share of this example in a step's mean: 1 for a pair, its agent tokens for cloning."""
    references: Mapping[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    """By name, for each leaf `[agent tokens]` values that stay as they are in training, for example the
    reference's log-probs."""


Objective = Callable[[Example, list[TokenOutputs]], tuple[Tensor, dict[str, float]]]
"""(example, each leaf's outputs) -> (loss summed over `size` units, metrics per unit).

One with an attribute `entropy` that is true is given entropies too."""


def summed_loss(
    scorer: TreeLogProbs, part: Sequence[Example], objective: Objective
) -> tuple[Tensor, list[tuple[float, dict[str, float]]]]:
    """Summed loss of `part`, and each example's size and figures. Raises `EngineFailure` if it is not a
    number."""
    losses, rows = [], []
    entropy = getattr(objective, "entropy", False)
    outputs = scorer.outputs([example.tree for example in part], entropy=entropy)
    for example, leaves in zip(part, outputs, strict=True):
        loss, figures = objective(example, leaves)
        losses.append(loss)
        rows.append((example.size, {"loss": float(loss.detach()) / example.size, **figures}))
    loss = torch.stack(losses).sum()
    if not torch.isfinite(loss):
        raise EngineFailure("the loss is not a number", hint="lower the learning rate, or use float32")
    return loss, rows


def mean_figures(rows: Sequence[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """Means by size; a figure that some examples do not have is a mean over those that do."""
    sums: dict[str, float] = {}
    sizes: dict[str, float] = {}
    for size, figures in rows:
        for key, value in figures.items():
            sums[key] = sums.get(key, 0.0) + size * value
            sizes[key] = sizes.get(key, 0.0) + size
    return {key: sums[key] / sizes[key] for key in sums}
