"""Which trees pass the model together: split over lanes, neighbours that begin alike together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from eto.cpu.core_groups import CoreGroups, balanced
from eto.cpu.replicas import Replicas
from eto.training.log_probs import TreeLogProbs
from eto.training.trees import Tree

Groups = list[list[int]]
"""Numbers of the trees of each forward pass of a lane, in order."""


def split(trees: Sequence[Tree], tokens: int, lanes: int) -> list[Groups]:
    """For each lane its forward passes, of `tokens` / `lanes` tokens at most or of one tree.

    All `lanes` run at the same time, so that `tokens` bound what is computed, and kept for the
    backward pass, at a time. Trees are taken in the order of their ids: the same kind of task side
    by side.
    """
    order = sorted(range(len(trees)), key=lambda number: trees[number].ids.tolist())
    sizes = [len(trees[number]) for number in order]
    found = []
    for run in balanced(sizes, lanes):
        groups: Groups = []
        filled = 0
        for at in run:
            if not groups or filled + sizes[at] > tokens // lanes:
                groups.append([])
                filled = 0
            groups[-1].append(order[at])
            filled += sizes[at]
        found.append(groups)
    return found


def at_a_time(found: Sequence[Groups]) -> Groups:
    """The trees that pass together in all lanes, moment by moment."""
    moments = max(len(groups) for groups in found)
    return [
        [number for groups in found if moment < len(groups) for number in groups[moment]]
        for moment in range(moments)
    ]


@torch.no_grad()
def log_probs_of(
    model: nn.Module, trees: Sequence[Tree], dtype: torch.dtype, tokens: int
) -> list[list[np.ndarray]]:
    """Log-probs `[agent tokens]` of every leaf of every tree, e.g. of the reference, without gradients."""
    with CoreGroups(next(model.parameters()).device) as lanes:
        found = split(trees, tokens, lanes.count)
        replicas = Replicas(model, dtype, len(found), trained=False)
        scored: dict[int, list[np.ndarray]] = {}

        def score(lane: int) -> None:
            scorer = TreeLogProbs(replicas.models[lane], owned=True).eval()
            with torch.no_grad():  # threads have this setting for themselves
                for group in found[lane]:
                    leaves = scorer([trees[number] for number in group])
                    for number, each in zip(group, leaves, strict=True):
                        scored[number] = [leaf.cpu().numpy() for leaf in each]

        lanes.map(score, range(len(found)))
    return [scored[number] for number in range(len(trees))]
