"""Which turns of a pair carry the contrast, and how much.

The paper's loss sums the log-probabilities of all actions of a side with weight 1. A
failing agent loops, so that sum pushes the same, often good, action down many times; and
the turns before the divergence are equal on both sides. `ContrastSettings` may say otherwise.
"""

from __future__ import annotations

from eto.settings import ContrastSettings
from eto.types import Pair, Trajectory

Weights = tuple[float, ...]


def turn_weights(pair: Pair, settings: ContrastSettings) -> tuple[Weights, Weights]:
    """Weights of the turns of (chosen, rejected), one number in [0, 1] a turn.

    A turn marked as carrying no loss weighs 0. A side may come out all 0: one that ends at the
    divergence, or, without `repeats`, one that after it only repeats itself. Training leaves such
    pairs out.
    """
    shared = pair.shared_turns
    return _side(pair.chosen, shared, settings), _side(pair.rejected, shared, settings)


def _side(trajectory: Trajectory, shared: int, settings: ContrastSettings) -> Weights:
    total = len(trajectory.turns)
    first = 0 if settings.turns == "all" else shared
    end = total if settings.window is None else min(total, shared + settings.window)
    weights = []
    earlier: set[tuple[object, ...]] = set()
    for number, turn in enumerate(trajectory.turns):
        said = turn.action.strip(), *turn.said[1:]
        counts = turn.loss and first <= number < end and (settings.repeats or said not in earlier)
        earlier.add(said)
        weights.append(_discount(number, first, shared, total, settings) if counts else 0.0)
    return tuple(weights)


def _discount(number: int, first: int, shared: int, total: int, settings: ContrastSettings) -> float:
    gamma = settings.discount
    if settings.discount_kind == "geometric":
        return gamma ** max(0, number - shared)
    step, length = number - first, total - first
    if gamma == 1.0:
        return (length - step) / length
    return gamma**step * (1.0 - gamma ** (length - step)) / (1.0 - gamma**length)
