"""Which trees pass the model together: split over lanes, neighbours that begin alike together."""

from __future__ import annotations

from collections.abc import Sequence

from eto.cpu.core_groups import balanced
from eto.tokens.prefix_tree import Tree

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
    per_lane = []
    for run in balanced(sizes, lanes):
        groups: Groups = []
        filled = 0
        for at in run:
            if not groups or filled + sizes[at] > tokens // lanes:
                groups.append([])
                filled = 0
            groups[-1].append(order[at])
            filled += sizes[at]
        per_lane.append(groups)
    return per_lane


def concurrent_passes(lanes: Sequence[Groups]) -> Groups:
    """The trees that pass together in all lanes, pass by pass."""
    passes = max(len(groups) for groups in lanes)
    return [
        [number for groups in lanes if together < len(groups) for number in groups[together]]
        for together in range(passes)
    ]


def forward_passes(batches: Sequence[Sequence[Tree]], tokens: int, lanes: int) -> list[tuple[Tree, ...]]:
    """The trees that pass at the same time, for all of `batches`."""
    passes = []
    for trees in batches:
        groups = split(trees, tokens, lanes)
        passes += [tuple(trees[i] for i in together) for together in concurrent_passes(groups)]
    return passes
