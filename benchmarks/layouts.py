"""Training on pairs laid out as trees and as plain rows: what sharing a prefix gains of what it could.

Both layouts go through the same loop and the same loss, the difference of the sides' summed log-probs,
whose gradient is DPO's up to a factor a pair. Plain rows lie end to end and share nothing; the bound is
the ratio of the tokens that pass the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.frame import alternate
from eto.settings import TrainingSettings
from eto.tokens.prefix_tree import Row, Tree, build_tree, lay_out
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.types import Pair

TREES = "eto, trees"
ROWS = "eto, plain rows"
NOTHING_SHARED = 10**9
"""Tokens that sharing would have to save."""


def layouts(policy: Learner, pairs: Sequence[Pair]) -> tuple[list[Example], list[Example]]:
    """The pairs as one tree each, and as two trees of one leaf each."""
    trees, singles = [], []
    for pair in pairs:
        rendered = [policy.renderer.render(side) for side in (pair.chosen, pair.rejected)]
        sides = [(each.ids, each.turns) for each in rendered]
        trees.append(signed(sides, (1.0, -1.0)))
        singles += [signed([side], (sign,)) for side, sign in zip(sides, (1.0, -1.0), strict=True)]
    return trees, singles


def signed(sides: Sequence[tuple[Sequence[int], Sequence[int]]], signs: Sequence[float]) -> Example:
    """An example whose weights are each side's sign; its size is its share of a pair."""
    tree = build_tree(sides)
    weights = tuple(
        np.full(len(leaf.targets), sign, np.float32) for leaf, sign in zip(tree.leaves, signs, strict=True)
    )
    return Example(tree, weights, size=len(sides) / 2)


def layout_speeds(
    policy: Learner,
    trees: Sequence[Example],
    singles: Sequence[Example],
    batch_pairs: int,
    repetitions: int,
) -> tuple[dict[str, list[float]], float, str]:
    """Tokens/s of either layout, the bound of their ratio, and that they gave the same loss."""
    losses: dict[str, float] = {}
    passed: dict[str, int] = {}
    plain = sum(example.tree.plain_tokens for example in trees)

    def speed(name: str, examples: Sequence[Example], batch: int) -> float:
        counts: list[int] = []

        def laid_out(batch: Sequence[Tree]) -> Row:
            row = lay_out(batch) if name == TREES else lay_out(batch, NOTHING_SHARED)
            counts.append(len(row.ids))
            return row

        with mock.patch("eto.training.log_probs.lay_out", laid_out):
            seconds, losses[name] = difference_step(policy, examples, batch, counts.clear)
        passed[name] = sum(counts)
        return plain / seconds

    found = alternate(
        {
            TREES: partial(speed, TREES, trees, batch_pairs),
            ROWS: partial(speed, ROWS, singles, 2 * batch_pairs),
        },
        repetitions,
    )
    agent_tokens = sum(len(leaf.targets) for e in trees for leaf in e.tree.leaves) / len(trees)
    apart = abs(losses[TREES] - losses[ROWS]) / agent_tokens
    if apart > (0.02 if policy.dtype == torch.bfloat16 else 1e-4):
        raise AssertionError(f"trees and plain rows differ by {apart:.3g} nats an agent token")
    same = f"Trees and plain rows: losses {apart:.1g} nats an agent token apart."
    return found, passed[ROWS] / passed[TREES], same


def difference_step(
    policy: Learner, examples: Sequence[Example], batch: int, begin: Callable[[], object]
) -> tuple[float, float]:
    """Seconds and mean loss of an epoch at learning rate 0, which leaves the weights as they are.

    begin: called when planning is over and training begins.
    """

    def difference(example: Example, outputs: list[TokenOutputs]) -> tuple[Tensor, dict[str, float]]:
        leaves = [leaf.log_probs for leaf in outputs]
        signs = [torch.from_numpy(weights).to(leaves[0].device) for weights in example.weights]
        return -sum((leaf * sign).sum() for leaf, sign in zip(leaves, signs, strict=True)), {}

    settings = TrainingSettings(epochs=1, learning_rate=1e-12, batch_size=batch, schedule="constant")
    begun = time.perf_counter()
    fit = policy.fit(examples, difference, settings)
    begin()
    losses = [step.figures["loss"] for step in fit]
    return time.perf_counter() - begun, sum(losses) / len(losses)
