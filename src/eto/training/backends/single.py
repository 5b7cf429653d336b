"""Plain autograd on any device: the reference that every fast path is compared with.

One pass at a time, no autograd functions of our own, dense attention masks on a CPU. Weights stay
in fp32; in another type the forward pass runs under autocast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eto.models.architecture import switch_recomputing
from eto.tokens.prefix_tree import Tree
from eto.training.backends.base import ScoringProgress
from eto.training.batches import split
from eto.training.dropout import without_dropout
from eto.training.example import Example, Objective, mean_figures, summed_loss
from eto.training.log_probs import TreeLogProbs
from eto.training.probe import check_training

MICRO_BATCH_TOKENS = 8192
"""Tree tokens of a pass on a GPU, where settings do not say; not measured."""


class Single:
    """Gradients by plain autograd, straight into the model's `grad`."""

    concurrent = 1
    plain = True

    def __init__(self, model: Any, *, dropout: bool = True) -> None:
        """Raises `InputError` for an architecture whose trees cannot be computed."""
        check_training(model, plain=True)
        self._model, self._dropout = model, dropout
        self._scorer: TreeLogProbs | None = None
        self._dtype = torch.float32

    def begin(self, dtype: torch.dtype, *, recompute_activations: bool = False) -> None:
        self._dtype = dtype
        self._scorer = TreeLogProbs(self._model, plain=True)
        if recompute_activations:
            switch_recomputing(self._scorer.model, "enable")({"use_reentrant": False})

    def gradients(self, batch: Sequence[Example], objective: Objective, tokens: int) -> dict[str, float]:
        if self._scorer is None:
            raise RuntimeError("gradients before begin")
        self._scorer.train()
        if not self._dropout:
            without_dropout(self._scorer)
        self._clear()
        total = sum(example.size for example in batch)
        rows = []
        for group in split([example.tree for example in batch], tokens, 1)[0]:
            with _computing_in(self._dtype, self._model):
                loss, figures = summed_loss(self._scorer, [batch[i] for i in group], objective)
            (loss / total).backward()
            rows += figures
        return mean_figures(rows)

    def sync_weights(self) -> None:
        """Nothing to take: the passes use the model's own weights."""

    def _clear(self) -> None:
        for weight in self._model.parameters():
            weight.grad = torch.zeros_like(weight) if weight.requires_grad else None

    def __enter__(self) -> Single:
        return self

    def __exit__(self, *_: object) -> None:
        self._scorer = None
        self._model.zero_grad(set_to_none=True)


@torch.no_grad()
def plain_log_probs(
    model: Any,
    trees: Sequence[Tree],
    dtype: torch.dtype,
    tokens: int,
    *,
    values: bool = False,
    progress: ScoringProgress | None = None,
) -> list[list[np.ndarray]]:
    """As `eto.training.backends.core_groups.grouped_log_probs`, in plain passes one after the other."""
    scorer = TreeLogProbs(model, plain=True).eval()
    scored: dict[int, list[np.ndarray]] = {}
    for group in split(trees, tokens, 1)[0]:
        with _computing_in(dtype, model):
            leaves = scorer.outputs([trees[number] for number in group])
        for number, each in zip(group, leaves, strict=True):
            scored[number] = [leaf.as_numpy(values=values) for leaf in each]
        if progress is not None:
            progress(len(scored), len(trees))
    return [scored[number] for number in range(len(trees))]


def _computing_in(dtype: torch.dtype, model: Any) -> torch.autocast:
    device = next(model.parameters()).device.type
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)
