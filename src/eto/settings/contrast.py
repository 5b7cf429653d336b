"""Settings of pairs: which are made, and which of their turns carry the contrast."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from eto.settings.base import Conflict, Settings
from eto.settings.limits import Count, Discount, Share, Whole

Match = Literal["partner", "widest"]
Turns = Literal["all", "from_divergence", "window"]
DiscountKind = Literal["geometric", "dmpo"]


class ContrastSettings(Settings):
    """Making pairs of trajectories, and weighing their turns."""

    of_turns: ClassVar = ("gap_weights", "turns", "window", "discount", "discount_kind", "repeats")
    """Fields that weigh pairs and their turns; the others decide which pairs are made."""
    of_several: ClassVar = ("match", "agent_pairs", "per_task")
    """Fields that count where tasks have several explored episodes, or no expert."""

    margin_turns: Whole | None = 5
    """Rejected is cut at the chosen's turns plus this many; null does not cut. Paper's code: 5."""
    min_gap: Share = 0.0
    """A pair needs a reward difference above this. Paper: 0."""
    match: Match = "partner"
    """Which trajectories of a task are paired. partner: each explored one with the expert's, in their order
    (paper). widest: also every two explored ones, where `agent_pairs`, the widest reward difference first:
    with `per_task: 1` the best and the worst, with null all."""
    both_directions: bool = True
    """An explored episode that beats the expert's becomes chosen. Paper: true."""
    agent_pairs: bool = False
    """Where a task has no expert, its best explored episode takes the expert's place. Paper: false."""
    per_task: Count | None = 1
    """Most pairs of one task and round; null: one for every distinct explored episode. Paper: 1."""
    per_kind: Count | None = None
    """Most pairs of one task type and round, against lopsided pairs; null sets no bound."""
    gap_weights: bool = False
    """Whether a pair counts in a step's mean by its reward difference, over that of the average pair. Paper:
    false."""
    turns: Turns = "all"
    """Turns of a pair that carry the contrast: all (paper), those from the divergence on, or
    `window` turns from the divergence on."""
    window: Count | None = None
    """Turns after the divergence that carry the contrast; given with `turns: window` only."""
    discount: Discount = 1.0
    """Weight factor per turn of distance from the divergence; 1 weighs all alike (paper)."""
    discount_kind: DiscountKind = "geometric"
    """How `discount` γ falls. geometric: γ^k for the k-th turn after the divergence, k = 0 up to it. dmpo:
    γ^j (1 - γ^(T-j)) / (1 - γ^T), for γ = 1 (T - j) / T, of DMPO (arXiv 2406.14868); j counts from 0 over
    the T turns of the side, or over those from the divergence on where earlier ones carry nothing."""
    repeats: bool = True
    """Whether a turn that repeats an earlier one of its trajectory counts again. Paper: true."""

    @model_validator(mode="after")
    def _window_goes_with_turns(self) -> Self:
        if self.turns == "window" and self.window is None:
            raise Conflict("turns: window needs {place}window, for example 3")
        if self.turns != "window" and self.window is not None:
            raise Conflict(f"window has no meaning with turns: {self.turns}; set {{place}}window to null")
        return self
