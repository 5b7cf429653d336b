"""Which turns of a pair carry the contrast, and how much.

The paper's loss sums the log-probabilities of all actions of a side with weight 1. A
failing agent loops, so that sum pushes the same, often good, action down many times; and
the turns before the parting are equal on both sides. A `TurnWeighting` says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from eto.limits import Count, Discount, DiscountKind, Turns, check
from eto.types import Pair, Trajectory

Weights = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TurnWeighting:
    """How much each turn counts in the preference loss. The default is the paper's sum.

    Raises `InputError` for a value out of range, or without effect.
    """

    turns: Turns = "all"
    """`all`; `from_parting`: 0 on the shared leading turns; `window`: only `window` turns
    from the parting on."""
    window: Count | None = None
    """Number of turns; with `turns="window"` only."""
    discount: Discount = 1.0
    """γ in (0, 1]."""
    discount_kind: DiscountKind = "geometric"
    """`geometric`: γ^k for the k-th turn after the parting (k = 0 up to the parting).
    `dmpo`: φ(j, T) = γ^j (1 - γ^(T-j)) / (1 - γ^T), in the limit γ = 1 (T - j) / T, of
    DMPO (Shi et al., EMNLP 2024); j counts from 0 over the T turns of the side, or over
    those from the parting on where earlier ones carry nothing."""
    repeats: bool = True
    """Whether an action that repeats an earlier one of its trajectory counts again."""

    def __post_init__(self) -> None:
        check(self)


def turn_weights(pair: Pair, weighting: TurnWeighting) -> tuple[Weights, Weights]:
    """Weights of the turns of (chosen, rejected), one number in [0, 1] a turn.

    A turn marked as carrying no loss weighs 0. A side may come out all 0: one that ends at the
    parting, or, without `repeats`, one that after it only repeats itself. Training leaves such
    pairs out.
    """
    shared = pair.shared_turns
    return _side(pair.chosen, shared, weighting), _side(pair.rejected, shared, weighting)


def _side(trajectory: Trajectory, shared: int, weighting: TurnWeighting) -> Weights:
    total = len(trajectory.turns)
    first = 0 if weighting.turns == "all" else shared
    end = total if weighting.window is None else min(total, shared + weighting.window)
    weights = []
    earlier: set[tuple[object, ...]] = set()
    for number, turn in enumerate(trajectory.turns):
        said = turn.action.strip(), *turn.said[1:]
        counts = turn.loss and first <= number < end and (weighting.repeats or said not in earlier)
        earlier.add(said)
        weights.append(_discount(number, first, shared, total, weighting) if counts else 0.0)
    return tuple(weights)


def _discount(number: int, first: int, shared: int, total: int, weighting: TurnWeighting) -> float:
    gamma = weighting.discount
    if weighting.discount_kind == "geometric":
        return gamma ** max(0, number - shared)
    step, length = number - first, total - first
    if gamma == 1.0:
        return (length - step) / length
    return gamma**step * (1.0 - gamma ** (length - step)) / (1.0 - gamma**length)
