"""Settings of policy-gradient training. The ETO paper names PPO as a baseline and states no values of its
own; the defaults are those in common use (PPO, arXiv 1707.06347; RLHF, arXiv 2203.02155)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eto.settings.base import Most
from eto.settings.limits import Count, NotNegative, Positive, Share
from eto.settings.training import Schedule, TrainingSettings


class PpoUpdateSettings(TrainingSettings):
    """An update by PPO on the episodes of one round."""

    epochs: Annotated[Count, Most(1_000_000)] = 2
    """Passes over the episodes of a round."""
    learning_rate: Positive = 1e-6
    """Learning rate."""
    batch_size: Count | None = 32
    """Episodes of one optimiser step; null with `batch_tokens`."""
    schedule: Schedule = "constant"
    """Course of the learning rate."""
    warmup_ratio: Share = 0.0
    """Share of the steps in which the learning rate rises; 0 with `schedule: constant`."""
    dropout: bool = False
    """Keep the dropout of model and adapters; the old policy is scored without any."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far the probability ratio counts, from 1; and a value, from what it was."""
    kl_weight: NotNegative = 0.1
    """Penalty per nat of log pi - log pi_ref at each token, in units of reward."""
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of later rewards, a token."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Lambda of the advantages (GAE)."""
    value_weight: NotNegative = 0.1
    """Weight of the value head's loss."""
    entropy_weight: NotNegative = 0.0
    """Weight of the entropy of the agent's tokens, which is added to what is sought."""
    target_kl: Positive | None = 0.1
    """A round ends after a step whose mean KL to the round's first policy passes this many nats a token;
    null: never."""
