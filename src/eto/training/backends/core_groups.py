"""The fast paths of a CPU: groups of cores side by side, each with a replica of the model."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch

from eto.cpu.core_groups import MOST, CoreGroups
from eto.cpu.replicas import Replicas
from eto.tokens.prefix_tree import Tree
from eto.training.backends.base import ScoringProgress
from eto.training.batches import split
from eto.training.dropout import has_dropout, without_dropout
from eto.training.example import Example, Objective, mean_figures, summed_loss
from eto.training.log_probs import TreeLogProbs
from eto.training.probe import check_training

MICRO_BATCH_TOKENS = 1024
"""Tree tokens of the forward passes that run at the same time, where settings do not say (`LOG.md`)."""


class CoreGroupBackend:
    """Loss and gradients of optimiser steps, each lane with a replica of the model.

    A context manager: it takes a gradient's memory for each lane until it is left.
    """

    plain = False

    def __init__(self, model: Any, most_lanes: int = MOST, *, dropout: bool = True) -> None:
        """`dropout`: False computes without the model's and its adapters', as the reference is scored.

        Raises `InputError` for an architecture whose trees cannot be computed.
        """
        check_training(model)
        # Dropout draws from one stream of random numbers.
        alone = dropout and has_dropout(model)
        self._dropout = dropout
        self._model = model
        self.groups = CoreGroups(next(model.parameters()).device, 1 if alone else most_lanes)
        self.replicas: Replicas | None = None
        self._scorers: list[TreeLogProbs] = []

    def begin(self, dtype: torch.dtype, *, recompute_activations: bool = False) -> None:
        """Make the replicas, which compute in `dtype`."""
        self.replicas = Replicas(
            self._model,
            dtype,
            self.groups.count,
            recompute_activations=recompute_activations,
        )
        self._scorers = [TreeLogProbs(each, owned=True) for each in self.replicas.models]

    def __enter__(self) -> CoreGroupBackend:
        return self

    @property
    def concurrent(self) -> int:
        return self.groups.count

    def sync_weights(self) -> None:
        """Take the model's weights after an optimiser step."""
        self._begun().sync_weights()

    def __exit__(self, *_: object) -> None:
        self.groups.close()
        self._scorers.clear()
        if self.replicas is not None:
            self.replicas.release()

    def gradients(self, batch: Sequence[Example], objective: Objective, tokens: int) -> dict[str, float]:
        """Leave the gradient of the mean loss over `batch` in the model; returns the mean figures.

        tokens: tree tokens that pass at the same time. Raises `EngineFailure` if the loss is not a number.
        """
        replicas, total = self._begun(), sum(example.size for example in batch)
        passes = split([example.tree for example in batch], tokens, self.groups.count)
        replicas.begin_step(
            [[sum(len(batch[i].tree) for i in group) for group in groups] for groups in passes]
        )

        def work(lane: int) -> list[tuple[float, dict[str, float]]]:
            rows = []
            self._scorers[lane].train()
            if not self._dropout:
                without_dropout(self._scorers[lane])
            for group in passes[lane]:
                part = [batch[i] for i in group]
                with replicas.passing(lane) as backward:
                    loss, figures = summed_loss(self._scorers[lane], part, objective)
                    backward(loss * (1.0 / total))
                rows += figures
            return rows

        rows = [row for each in self.groups.map(work, range(len(passes))) for row in each]
        replicas.reduce()
        return mean_figures(rows)

    def _begun(self) -> Replicas:
        if self.replicas is None:
            raise RuntimeError("gradients before begin")
        return self.replicas


@torch.no_grad()
def grouped_log_probs(
    model: Any,
    trees: Sequence[Tree],
    dtype: torch.dtype,
    tokens: int,
    *,
    values: bool = False,
    progress: ScoringProgress | None = None,
) -> list[list[np.ndarray]]:
    """Log-probs `[agent tokens]` of every leaf of every tree, e.g. of the reference, without gradients;
    `values`: those of the model's value head instead. `progress`: as in `eto.training.backends.log_probs`."""
    with CoreGroups(next(model.parameters()).device) as lanes:
        passes = split(trees, tokens, lanes.count)
        replicas = Replicas(model, dtype, len(passes), trained=False)
        scored: dict[int, list[np.ndarray]] = {}
        one_at_a_time = Lock()

        def score(lane: int) -> None:
            scorer = TreeLogProbs(replicas.models[lane], owned=True).eval()
            with torch.no_grad():  # threads have this setting for themselves
                for group in passes[lane]:
                    leaves = scorer.outputs([trees[number] for number in group])
                    for number, each in zip(group, leaves, strict=True):
                        scored[number] = [leaf.as_numpy(values=values) for leaf in each]
                    if progress is not None:
                        with one_at_a_time:
                            progress(len(scored), len(trees))

        try:
            lanes.map(score, range(len(passes)))
        finally:
            replicas.release()
    return [scored[number] for number in range(len(trees))]
