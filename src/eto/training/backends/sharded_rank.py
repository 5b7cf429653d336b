"""What one rank of a training does: its share of a step's gradient, the update, the state on disk.

DDP and FSDP2 both average gradients over the ranks. A rank therefore sums the losses of its examples and
divides by the whole step's size / number of ranks: the average is the gradient of the step's mean loss, as
one process computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from eto.models.architecture import switch_recomputing
from eto.models.private_interfaces import forget_passes
from eto.settings import TrainingSettings
from eto.tokens.prefix_tree import Tree
from eto.training.backends.sharded_layout import Sharding, distributed
from eto.training.checkpoint import damage_named
from eto.training.dropout import without_dropout
from eto.training.example import Example, Objective, summed_loss
from eto.training.log_probs import TreeLogProbs
from eto.training.optimiser import Optimiser
from eto.training.state import read_moments, whole, write_shards

Rows = list[tuple[float, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Training:
    """What a rank is told at the beginning."""

    model: Path
    """The model as `torch.save` wrote it, on a disk that all ranks read."""
    backend: Literal["ddp", "fsdp2"]
    dtype: torch.dtype
    """Of the computation."""
    weights: torch.dtype
    """Of the weights that are updated."""
    settings: TrainingSettings
    plain: bool
    dropout: bool
    recompute: bool
    offload: bool
    state: Path | None
    """A state to go on from: its moments. The model has its weights already."""


class Loss(nn.Module):
    """The module that DDP or FSDP2 wraps: one forward pass, from trees to a summed loss or to scores."""

    def __init__(self, scorer: TreeLogProbs) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, part: Sequence[Any], objective: Objective | None, scale: float = 1.0) -> Any:
        """Summed loss of the examples in `part`, times `scale`, and each one's size and figures; without an
        objective what the pass returns of the trees in `part`."""
        if objective is None:
            return self.scorer.outputs(part)
        loss, rows = summed_loss(self.scorer, part, objective)
        return loss * scale, rows


class Rank:
    """One of `world` processes with its share, or copy, of the model."""

    def __init__(self, training: Training, rank: int, world: int, device: torch.device) -> None:
        self._training, self._rank, self._world, self._device = training, rank, world, device
        # Pages are read when they are needed: a rank of FSDP2 keeps its share of them.
        model = torch.load(training.model, map_location="cpu", mmap=True, weights_only=False)
        if training.weights != torch.float32:
            model = model.to(training.weights)
        self._scorer = TreeLogProbs(model, owned=True, plain=training.plain)
        if training.recompute:
            switch_recomputing(self._scorer.model, "enable")({"use_reentrant": False})
        sharding = Sharding(training.backend, training.dtype, training.offload, device)
        self._loss = distributed(Loss(self._scorer), sharding)
        self._model = self._scorer.model
        self._optimiser = Optimiser(self._model, training.settings)
        if training.state is not None:
            with damage_named(training.state):
                read_moments(training.state, self._model, self._optimiser.algorithm)

    def gradients(
        self,
        passes: Sequence[Sequence[Example]],
        counted: int,
        objective: Objective,
        total: float,
        seed: int,
    ) -> Rows:
        """Leave the gradient of the mean loss over all ranks' examples; returns this rank's rows.

        passes: as many on each rank; those from `counted` on only keep step with the other ranks, and weigh
        nothing. total: size of all ranks' examples.
        """
        torch.manual_seed(seed + self._rank)
        self._scorer.train()
        if not self._training.dropout:
            without_dropout(self._scorer)
        for weight in self._model.parameters():
            weight.grad = None
        rows: Rows = []
        for number, part in enumerate(passes):
            counts = number < counted
            scale = self._world / total if counts else 0.0
            with self._syncing(last=number == len(passes) - 1):
                with self._computing():
                    loss, found = self._loss(part, objective, scale)
                loss.backward()
            rows += found if counts else []
        for weight in self._model.parameters():
            if weight.requires_grad and weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        return rows

    def step(self, rate: float, max_grad_norm: float) -> float:
        """As `Optimiser.step`, of all ranks' shares."""
        return self._optimiser.step(rate, max_grad_norm)

    def written(self, path: Path) -> None:
        """Rank 0 writes the trained weights, whole, to `path`."""
        found = {}
        for name, weight in self._model.named_parameters():
            if weight.requires_grad:
                each = whole(weight.detach())
                if self._rank == 0:
                    found[name] = each.cpu().contiguous()
        if self._rank == 0:
            save_file(found, path)

    def gradient(self, path: Path) -> None:
        """As `written`, of the gradients."""
        found = {
            name: whole(weight.grad).float().cpu().contiguous()
            for name, weight in self._model.named_parameters()
            if weight.grad is not None
        }
        if self._rank == 0:
            save_file(found, path)

    def save(self, directory: Path) -> None:
        """Each rank writes its share of weights and optimiser into `directory`."""
        write_shards(directory, self._model, self._optimiser.algorithm)
        dist.barrier()

    @torch.no_grad()
    def score(self, passes: Sequence[Sequence[Tree]], values: bool) -> list[list[np.ndarray]]:
        """For each leaf of each tree of this rank's passes `[agent tokens]` log-probs, or values."""
        self._scorer.eval()
        scored = []
        for trees in passes:
            with self._computing():
                leaves = self._loss(trees, None)
            scored += [[leaf.as_numpy(values=values) for leaf in each] for each in leaves]
        forget_passes(self._loss)
        return scored

    def _computing(self) -> AbstractContextManager[Any]:
        """DDP computes under autocast; FSDP2 gathers weights in the type of the computation."""
        training = self._training
        mixed = training.backend == "ddp" and training.dtype != training.weights
        return torch.autocast(self._device.type, training.dtype, enabled=mixed)

    def _syncing(self, *, last: bool) -> AbstractContextManager[Any]:
        """DDP averages once, after the last pass; FSDP2 after each, and keeps shares only."""
        return nullcontext() if last or self._training.backend == "fsdp2" else self._loss.no_sync()
