"""Settings of exploring by an ensemble of estimates (OPARL, arXiv 2312.15965)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from eto.settings.acting import ExploreSettings
from eto.settings.base import Conflict, Most, Settings
from eto.settings.limits import Count, NotNegative, Positive
from eto.settings.monte_carlo import MonteCarloSettings


class EnsembleSettings(Settings):
    """Estimates of what actions are worth, which differ where little was seen."""

    heads: Annotated[Count, Most(1000)] = 5
    """Number of estimates. Paper's code: 5."""
    ridge: Positive = 1.0
    """Pull of each estimate towards its prior, in turns seen. Ours."""
    prior: NotNegative = 0.3
    """Standard deviation of the weights that the estimates begin with; rewards lie in [0, 1]. Ours."""

    @model_validator(mode="after")
    def _some_to_differ(self) -> Self:
        if self.heads == 1:
            raise Conflict("one estimate never disagrees; set {place}heads above 1")
        return self


class ExplorerSettings(ExploreSettings):
    """The explorer's episodes."""

    samples: Annotated[Count, Most(10_000)] = 1
    """Episodes of each training task and round."""
    temperature: Annotated[NotNegative, Most(100)] = 1.0
    """Sampling temperature; above 0 where there are several candidates."""
    candidates: Annotated[Count, Most(1000)] = 4
    """Actions that are sampled in each turn, of which the explorer takes the one that the estimates dispute
    most. Paper's code: N = 1, which takes what is sampled."""

    @model_validator(mode="after")
    def _candidates_differ(self) -> Self:
        if self.candidates > 1 and self.temperature == 0:
            raise Conflict("{place}candidates above 1 needs {place}temperature above 0")
        return self


class ActorPairSettings(Settings):
    """Explorer and executor as adapters of their own, trained by the best and the worst that actions may be
    worth."""

    reset_every: Annotated[Count, Most(1000)] = 1
    """The explorer begins with the executor's weights again after so many rounds. Paper's code: after 20,000
    steps of a million."""
    estimate: Literal["heads", "rollouts"] = "heads"
    """What an action is worth. heads: the estimates of `ensemble`. rollouts: the rewards of episodes that the
    executor plays on."""
    monte_carlo: MonteCarloSettings = MonteCarloSettings()
    """With `estimate: rollouts`: the episodes after each action."""
    deviations: Positive | None = None
    """The bounds are mean plus or minus so many standard deviations; null: the highest and the lowest
    estimate, as in the paper's code."""
    states: Annotated[Count, Most(10_000)] = 4
    """States of each task's own episodes in which actions are compared. Ours."""
    least_gap: NotNegative = 0.05
    """The bounds of a pair's actions differ by more than this, in units of reward. Ours."""
