"""Settings of the offline critic. The paper (Q-Evolve, arXiv 2606.07367) was read second-hand and no code
was found: where a value is not known, it is one in common use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eto.settings.base import Most
from eto.settings.limits import Count, Positive, Share
from eto.settings.training import Schedule, TrainingSettings


class CriticSettings(TrainingSettings):
    """Learning the values of states from stored episodes."""

    epochs: Annotated[Count, Most(1_000_000)] = 2
    """Passes over the episodes."""
    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    batch_size: Count | None = 32
    """Episodes of one optimiser step; null with `batch_tokens`."""
    schedule: Schedule = "linear"
    """Course of the learning rate after warm-up."""
    dropout: bool = False
    """Keep the dropout that model and adapters have."""
    expectile: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Above one half, a state is worth what its better continuations reach (IQL, arXiv 2110.06169: 0.7)."""
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of later rewards, a turn."""


class ClippedUpdateSettings(TrainingSettings):
    """Updating the policy on stored episodes by the advantage of each turn."""

    epochs: Annotated[Count, Most(1_000_000)] = 1
    """Passes over the episodes."""
    learning_rate: Positive = 5e-6
    """Learning rate."""
    batch_size: Count | None = 32
    """Episodes of one optimiser step; null with `batch_tokens`."""
    schedule: Schedule = "constant"
    """Course of the learning rate."""
    warmup_ratio: Share = 0.0
    """Share of the steps in which the learning rate rises; 0 with `schedule: constant`."""
    dropout: bool = False
    """Keep the dropout that model and adapters have; the old policy is scored without any."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far the probability ratio of a token counts, from 1."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Lambda of the advantages (GAE), a turn."""
