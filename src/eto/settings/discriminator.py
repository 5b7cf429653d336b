"""Settings of the discriminator. StepAgent (arXiv 2411.03817) was read second-hand and no code was found:
the values are ours."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eto.settings.base import Most
from eto.settings.limits import Count, Positive
from eto.settings.training import Schedule, TrainingSettings


class DiscriminatorSettings(TrainingSettings):
    """Learning to tell the agent's actions from the expert's."""

    epochs: Annotated[Count, Most(1_000_000)] = 3
    """Passes over the states."""
    learning_rate: Positive = 5e-5
    """Peak learning rate."""
    batch_size: Count | None = 8
    """Experts' trajectories of one optimiser step, each with all its states; null with `batch_tokens`."""
    schedule: Schedule = "linear"
    """Course of the learning rate after warm-up."""
    dropout: bool = False
    """Keep the dropout that model and adapters have."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the experts' trajectories, at least one, on which it is measured and not trained."""
    least_accuracy: Annotated[float, Field(ge=0.5, lt=1)] = 0.55
    """A round whose discriminator is right less often about held-out actions that differ trains nothing and
    is the last; 0.5 is a guess."""
