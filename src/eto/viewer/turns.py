"""Turns side by side, and what training sees and makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from eto.credit.contrast import shared_turns
from eto.credit.turn_weights import turn_weights
from eto.data.pair_scores import PairScores, SideScores
from eto.experiment.recipe import Recipe
from eto.settings import ContrastSettings
from eto.types import Pair, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Beside:
    """The same turn of two trajectories; None where one has ended."""

    number: int
    left: Turn | None
    right: Turn | None
    shared: bool


def beside(one: Trajectory, other: Trajectory, shared: int | None = None) -> list[Beside]:
    """Two trajectories turn by turn, aligned from the start; `shared` leading turns are the same."""
    alike = shared_turns(one, other) if shared is None else shared
    both = zip_longest(one.turns, other.turns)
    return [Beside(n + 1, left, right, n < alike) for n, (left, right) in enumerate(both)]


@dataclass(frozen=True, slots=True)
class TurnFigures:
    """Of one turn of a side of a pair; None where it is not known."""

    weight: float | None
    """In the contrast, from 0 to 1."""
    tokens: int = 0
    before: float | None = None
    """Its log-prob in nats under the agent that training began with."""
    after: float | None = None
    change: float | None = None


def contrast_of(recipe: Recipe) -> ContrastSettings | None:
    """Those of the recipe's method, which give turns their weights; None where it has none."""
    values = (getattr(recipe.method, name) for name in type(recipe.method).model_fields)
    return next((value for value in values if isinstance(value, ContrastSettings)), None)


def turn_figures(
    pair: Pair, contrast: ContrastSettings | None, scores: PairScores | None
) -> tuple[list[TurnFigures], list[TurnFigures]]:
    """For each turn of (chosen, rejected) its weight and what training did to its log-prob."""
    weights: Sequence[Sequence[float | None]]
    if contrast is None:
        weights = [None] * len(pair.chosen.turns), [None] * len(pair.rejected.turns)
    else:
        weights = turn_weights(pair, contrast)
    sides = (scores.chosen, scores.rejected) if scores else (None, None)
    chosen, rejected = (_figures(*each) for each in zip(weights, sides, strict=True))
    return chosen, rejected


def _figures(weights: Sequence[float | None], side: SideScores | None) -> list[TurnFigures]:
    if side is None or len(side.tokens) != len(weights):
        return [TurnFigures(weight) for weight in weights]
    columns = weights, side.tokens, side.before, side.after, side.changes
    return [TurnFigures(*each) for each in zip(*columns, strict=True)]
