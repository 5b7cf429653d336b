"""Loss and gradients of an optimiser step: what is computed side by side, and how it adds up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eto.cpu.core_groups import MOST, CoreGroups
from eto.cpu.replicas import Replicas
from eto.errors import EngineFailure
from eto.training.batches import split
from eto.training.log_probs import TreeLogProbs
from eto.training.probe import check_training
from eto.training.trees import Tree


@dataclass(frozen=True, slots=True)
class Example:
    """One tree and what the loss needs to know of it."""

    tree: Tree
    weights: tuple[np.ndarray, ...]
    """For each leaf `[agent tokens]` weights."""
    size: float = 1.0
    """Share of this example in a step's mean: 1 for a pair, its agent tokens for cloning."""
    reference: tuple[np.ndarray, ...] = ()
    """For each leaf `[agent tokens]` reference log-probs; empty where the loss needs none."""


Objective = Callable[[Example, list[Tensor]], tuple[Tensor, dict[str, float]]]
"""(example, each leaf's token log-probs) -> (loss summed over `size` units, metrics per unit)."""


class Computing:
    """Loss and gradients of optimiser steps, each lane with a replica of the model.

    A context manager: it takes a gradient's memory for each lane until it is left.
    """

    def __init__(self, model: Any, most_lanes: int = MOST, *, dropout: bool = True) -> None:
        """`dropout`: False computes without the model's and its adapters', as the reference is scored.

        Raises `InputError` for an architecture whose trees cannot be computed.
        """
        check_training(model)
        # Dropout draws from one stream of random numbers.
        alone = dropout and has_dropout(model)
        self._dropout = dropout
        self._model = model
        self.lanes = CoreGroups(next(model.parameters()).device, 1 if alone else most_lanes)
        self.replicas: Replicas | None = None
        self._scorers: list[torch.nn.Module] = []

    def begin(self, dtype: torch.dtype, *, recompute_activations: bool = False) -> None:
        """Make the replicas, which compute in `dtype`."""
        self.replicas = Replicas(
            self._model,
            dtype,
            self.lanes.count,
            recompute_activations=recompute_activations,
        )
        self._scorers = [TreeLogProbs(each, owned=True) for each in self.replicas.models]

    def __enter__(self) -> Computing:
        return self

    @property
    def concurrent(self) -> int:
        return self.lanes.count

    def sync_weights(self) -> None:
        """Take the model's weights after an optimiser step."""
        self.replicas.sync_weights()

    def __exit__(self, *_: object) -> None:
        self.lanes.close()
        self._scorers.clear()
        if self.replicas is not None:
            self.replicas.release()

    def gradients(self, batch: Sequence[Example], objective: Objective, tokens: int) -> dict[str, float]:
        """Leave the gradient of the mean loss over `batch` in the model; returns the mean figures.

        tokens: tree tokens that pass at the same time. Raises `EngineFailure` if the loss is not a number.
        """
        total = sum(example.size for example in batch)
        found = split([example.tree for example in batch], tokens, self.lanes.count)

        def work(lane: int) -> list[tuple[float, dict[str, float]]]:
            rows = []
            self._scorers[lane].train()
            if not self._dropout:
                without_dropout(self._scorers[lane])
            for group in found[lane]:
                part = [batch[i] for i in group]
                loss, figures = summed_loss(self._scorers[lane], part, objective)
                (loss * (1.0 / total)).backward()
                self.replicas.accumulate(lane)
                rows += figures
            return rows

        rows = [row for each in self.lanes.map(work, range(len(found))) for row in each]
        self.replicas.reduce()
        return mean_figures(rows)


def summed_loss(
    scorer: torch.nn.Module, part: Sequence[Example], objective: Objective
) -> tuple[Tensor, list[tuple[float, dict[str, float]]]]:
    """Summed loss of `part`, and each example's size and figures."""
    losses, rows = [], []
    log_probs = scorer([example.tree for example in part])
    for example, leaves in zip(part, log_probs, strict=True):
        loss, figures = objective(example, leaves)
        losses.append(loss)
        rows.append((example.size, {"loss": float(loss.detach()) / example.size, **figures}))
    loss = torch.stack(losses).sum()
    if not torch.isfinite(loss):
        raise EngineFailure("the loss is not a number", mend="lower the learning rate, or use float32")
    return loss, rows


def mean_figures(found: Sequence[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """Means by size; a figure that some examples do not have is a mean over those that do."""
    sums: dict[str, float] = {}
    sizes: dict[str, float] = {}
    for size, figures in found:
        for key, value in figures.items():
            sums[key] = sums.get(key, 0.0) + size * value
            sizes[key] = sizes.get(key, 0.0) + size
    return {key: sums[key] / sizes[key] for key in sums}


def has_dropout(model: Any) -> bool:
    """Whether the model, or its adapters, drop anything in training."""
    config = model.config.get_text_config().to_dict()
    rates = [value for name, value in config.items() if _is_rate(name, value) and not _of_a_head(name)]
    rates += [each.p for each in model.modules() if isinstance(each, torch.nn.Dropout)]
    return any(rate > 0 for rate in rates)


def without_dropout(model: torch.nn.Module) -> None:
    """Let nothing in `model` be dropped, while activations are recomputed where they are."""
    model.eval()
    for module in model.modules():
        if not getattr(module, "gradient_checkpointing", False):
            continue
        # transformers recomputes in modules that are in training alone; what they drop by themselves, and
        # not in a module inside, is read from their attributes or from the configuration.
        module.training = True
        for owner in filter(None, (module, getattr(module, "config", None))):
            for name, value in list(vars(owner).items()):
                if _is_rate(name, value):
                    setattr(owner, name, 0.0)


def _is_rate(name: str, value: object) -> bool:
    return "drop" in name and isinstance(value, float)


def _of_a_head(name: str) -> bool:
    return name.startswith(("classifier", "summary"))
