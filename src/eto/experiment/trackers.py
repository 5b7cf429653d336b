"""Experiment trackers by name, opened through `accelerate`'s tracking API, each with what it needs to go on
with a run that it has begun."""

from __future__ import annotations

import importlib.util
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.errors import MissingRequirement
from eto.experiment.recipe import Recipe, resolved_yaml
from eto.experiment.tracked_rows import Point

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


@dataclass(frozen=True, slots=True)
class Begun:
    """What a tracker is opened with."""

    recipe: Recipe
    directory: Path
    """Where it keeps its files; exists."""
    identity: str
    """The run's identity there, from an earlier start; "" at the first."""

    @property
    def run_name(self) -> str:
        return self.recipe.tracking.run_name or self.recipe.name

    @property
    def project(self) -> str:
        return self.recipe.tracking.project


class Tracker:
    """An open tracker. Used in the thread that opened it, for MLflow's run is that of a thread."""

    def __init__(self, name: str, begun: Begun) -> None:
        """Raises whatever the tracker's package raises."""
        from accelerate import PartialState

        PartialState()  # its trackers ask it for the process's number
        self._name, self._axes = name, set[str]()
        self._tracker, self.identity = _OPEN[name](begun)
        if not begun.identity:
            self._describe(begun.recipe)

    def send(self, point: Point) -> None:
        """Show a point."""
        if not point.values:
            return
        if self._name == "wandb":  # one count of steps for all that a run logs, unless an axis is declared
            if point.axis not in self._axes:
                self._tracker.tracker.define_metric(f"{point.axis}/*", step_metric=f"{point.axis}/step")
                self._axes.add(point.axis)
            self._tracker.log({**point.values, f"{point.axis}/step": point.step})
        else:
            self._tracker.log(point.values, step=point.step)

    def close(self) -> None:
        """Let it write what it has taken. Raises whatever its package raises."""
        self._tracker.finish()

    def _describe(self, recipe: Recipe) -> None:
        if self._name == "tensorboard":  # its table of hyperparameters would be a run of its own
            self._tracker.log({"recipe": f"```yaml\n{resolved_yaml(recipe)}```"}, step=0)
        else:
            self._tracker.store_init_configuration(flat(recipe.model_dump(mode="json")))


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted name; lists and null as text."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}{name}.")
        else:
            found[path + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def check_installed(recipe: Recipe) -> None:
    """Raises `MissingRequirement` for the first tracker of the recipe that cannot be imported."""
    for name in recipe.tracking.trackers:
        for module in (name, "accelerate"):
            if importlib.util.find_spec(module) is None:
                raise MissingRequirement(
                    f"the package {module} is not installed",
                    where=f"tracking: {name}",
                    hint=f"pip install 'eto-agent[{name}]', or leave {name} out of tracking.trackers",
                )


def _tensorboard(begun: Begun) -> tuple[GeneralTracker, str]:
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker(begun.run_name, str(begun.directory / "tensorboard"))
    tracker.start()
    return tracker, begun.run_name


def _wandb(begun: Begun) -> tuple[GeneralTracker, str]:
    import wandb
    from accelerate.tracking import WandBTracker

    identity = begun.identity or secrets.token_hex(8)
    tracker = WandBTracker(
        begun.project,
        name=begun.run_name,
        id=identity,
        resume="allow",
        dir=str(begun.directory),
        settings=wandb.Settings(silent=True, console="off"),
    )
    tracker.start()
    return tracker, identity


def _mlflow(begun: Begun) -> tuple[GeneralTracker, str]:
    import mlflow
    from accelerate.tracking import MLflowTracker

    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs the large package
        mlflow.set_tracking_uri((begun.directory / "mlflow").absolute().as_uri())
    tracker = MLflowTracker(begun.project, run_id=begun.identity or None, run_name=begun.run_name)
    tracker.start()
    return tracker, tracker.tracker.info.run_id


def _trackio(begun: Begun) -> tuple[GeneralTracker, str]:
    os.environ.setdefault("TRACKIO_DIR", str(begun.directory / "trackio"))  # read when it is imported
    from accelerate.tracking import TrackioTracker

    identity = begun.identity or begun.run_name
    tracker = TrackioTracker(begun.project, name=identity, resume="allow", embed=False)
    tracker.start()
    return tracker, identity


_OPEN: Mapping[str, Callable[[Begun], tuple[GeneralTracker, str]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
