"""Settings of exploring by an ensemble of estimates (OPARL, arXiv 2312.15965)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from eto.settings.acting import ExploreSettings
from eto.settings.base import Conflict, Most, Settings
from eto.settings.limits import Count, NotNegative, Positive


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
