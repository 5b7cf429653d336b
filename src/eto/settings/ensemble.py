"""Settings of an ensemble of estimates, and of an explorer that follows its disagreement."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eto.settings.acting import ExploreSettings
from eto.settings.base import Most, Settings
from eto.settings.limits import Positive


class ExplorerSettings(ExploreSettings):
    """The explorer's episodes."""

    candidates: Annotated[int, Field(ge=2), Most(1000)] = 4
    """Actions that are sampled in each state; the one is taken on which the estimates differ most. Paper's
    code: 1 by default, which takes the only one."""


class EnsembleSettings(Settings):
    """K linear estimates of the reward, of features of state and action."""

    heads: Annotated[int, Field(ge=2), Most(1000)] = 5
    """K. Paper: 5."""
    ridge: Positive = 1.0
    """Pull towards each estimate's own random beginning; features have length 1 at most."""
    prior: Positive = 0.3
    """Standard deviation of these beginnings at an action that shares no word with what was seen, in rewards.
    """
    deviations: Positive | None = None
    """Optimistic is mean + so many standard deviations over K, pessimistic mean minus as many; null: the
    highest and the lowest of K, as in the paper."""
