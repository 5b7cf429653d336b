"""Settings of nearness to preferred trajectories, and of what it decides."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eto.settings.base import Most, Settings
from eto.settings.limits import Count, NotNegative, Portion, Positive, Whole


class SimilaritySettings(Settings):
    """Closeness of own episodes to preferred ones, and the pairs it makes."""

    encoder: str | None = Field(None, min_length=1)
    """Turns as mean-pooled hidden states of a language model: `embedded`, a directory or a Hub id; null: as
    hashed words, without a model."""
    bandwidth: Positive | None = None
    """h of the kernel, in the unit of the features (hashed words have length 1 at most); null: the median
    distance of two preferred turns. Paper's code: 2.5 to 9.5, in positions."""
    preferred: Annotated[Count, Most(10_000)] = 8
    """Most preferred trajectories of a task type: experts and own successes. Paper's code: 8."""
    least_reward: Annotated[float, Field(gt=0, le=1)] = 1.0
    """An episode of at least this reward is a success; the others are failures."""
    ties: Annotated[Whole, Most(10_000)] = 1
    """Most pairs of own episodes of a task and round that closeness makes; 0: none."""
    least_difference: NotNegative = 0.02
    """Two failures are a pair where their closeness differs by more than this; with `bonus`, two episodes
    whose value does."""
    hardest: Annotated[Count | None, Most(10_000)] = None
    """So many failures of a task, those nearest to the preferred ones, are set against the expert; null:
    any."""
    bonus: Positive | None = None
    """Own episodes are compared by reward + bonus * closeness, the latter standardised over the round; null:
    closeness decides between failures of equal reward alone. Paper's code: 0.6 on advantages."""
    bonus_decay: Portion = 0.75
    """Factor of `bonus` from a round to the next. Paper's code: in steps from 0.6 to 0.45."""
