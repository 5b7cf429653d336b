"""Settings of experiment trackers, which show what a run writes down while it goes on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import Field, model_validator

from eto.settings.base import Conflict, Free, Settings
from eto.settings.limits import Whole

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class TrackingSettings(Settings):
    """Where the run's metrics go besides its own directory. A list stands for its `trackers`."""

    trackers: Annotated[list[TrackerName], Free()] = Field(default=[])
    """Any of them, by name; each is a package of its own."""
    project: Annotated[str, MinLen(1), Free()] = "eto"
    """Project of wandb and trackio, experiment of mlflow."""
    episodes: Annotated[Whole, Free()] = 8
    """How many episodes of each evaluation trackers show that have a place for them (trackio): of the same
    tasks each time; 0: none."""
    run_name: Annotated[str | None, Free()] = None
    """Name of the run there; null: the recipe's."""
    directory: Annotated[str | None, Free()] = None
    """Where they keep their files; null: `tracking` in the run directory."""

    @model_validator(mode="before")
    @classmethod
    def _list_of_trackers(cls, given: Any) -> Any:
        return {"trackers": given} if isinstance(given, list) else given

    @model_validator(mode="after")
    def _each_once(self) -> TrackingSettings:
        if len(set(self.trackers)) < len(self.trackers):
            raise Conflict("{place}trackers names one twice")
        return self
