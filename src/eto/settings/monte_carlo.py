"""Settings of Monte-Carlo values: how well an agent goes on from a state."""

from __future__ import annotations

from typing import Annotated

from eto.settings.base import Most, Settings
from eto.settings.limits import Count, Positive


class MonteCarloSettings(Settings):
    """The value of a state: the average reward of several episodes that go on from it."""

    samples: Annotated[Count, Most(10_000)] = 5
    """Episodes from each state. IPR's paper and HPL's code: 5."""
    temperature: Annotated[Positive, Most(100)] = 1.0
    """Sampling temperature of these episodes. IPR's and HPL's code: 1."""
