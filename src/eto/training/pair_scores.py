"""The log-prob of each turn of pairs under the weights as they are: what a training does to them, turn by
turn, is the difference of two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from eto.data.pair_scores import Scored, SideSums
from eto.errors import NothingLeft
from eto.tokens.fitting import fitted
from eto.tokens.prefix_tree import Leaf, Tree, tree_of
from eto.training.learner import Learner
from eto.types import Pair

AT_A_TIME = 16
"""Pairs whose trees are held at a time."""


def turn_log_probs(learner: Learner, pairs: Sequence[Pair]) -> Iterator[Scored | None]:
    """For each pair, in order, the log-probs (nats) of the turns of (chosen, rejected), each the sum over the
    turn's tokens. None for a pair of which a side keeps no turn with loss within the context.

    Both sides are scored as they were played, without what `ContrastSettings` weigh: the sum of a side's
    turns is its log-prob in ETO, eq. 11.
    """
    for start in range(0, len(pairs), AT_A_TIME):
        part = pairs[start : start + AT_A_TIME]
        trees = [_tree(learner, pair) for pair in part]
        scored = iter(learner.score([tree for tree in trees if tree is not None]))
        for pair, tree in zip(part, trees, strict=True):
            if tree is None:
                yield None
                continue
            turns = len(pair.chosen.turns), len(pair.rejected.turns)
            sides = zip(tree.leaves, next(scored), turns, strict=True)
            chosen, rejected = (_by_turn(*side) for side in sides)
            yield chosen, rejected


def _tree(learner: Learner, pair: Pair) -> Tree | None:
    try:
        sides = [fitted(side, learner.renderer, learner.max_context) for side in (pair.chosen, pair.rejected)]
    except NothingLeft:
        return None
    return tree_of([[(np.asarray(each.ids), np.asarray(each.turns)) for each in side] for side in sides])


def _by_turn(leaf: Leaf, log_probs: np.ndarray, turns: int) -> SideSums:
    """`[agent tokens]` log-probs of a leaf as sums of `turns` turns."""
    tokens = np.bincount(leaf.turns, minlength=turns)
    sums = np.bincount(leaf.turns, weights=log_probs, minlength=turns)
    kept = [float(total) if count else None for total, count in zip(sums, tokens, strict=True)]
    return SideSums(tuple(map(int, tokens)), tuple(kept))
