"""Engines outside this process, by the name that a recipe gives: `rollout.engine`.

The engine `NAME` is the package `eto.engines.NAME`, whose `open_engine(settings, needs)` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from eto.engines.server.replica import Served
from eto.engines.server.wire import LARGEST
from eto.environments.hosting.process import StartWorker, WorkerProcess
from eto.protocols import Engine
from eto.settings import RaySettings, RolloutSettings


@dataclass(frozen=True, slots=True)
class Needs:
    """What an engine is opened for."""

    max_context: int
    dtype: str
    """Of the weights it acts with, such as `float32`."""
    directory: Path
    """For its logs."""
    say: Callable[[str], None]
    """Tells the user something."""
    vocabulary: int = LARGEST
    """The number of ids that the model has."""


class OutsideEngine(Engine, Protocol):
    """An engine that reads weights from files, and whose weights can be looked at."""

    async def greet(self, probe: Sequence[int]) -> None:
        """Check that it answers as it must. Raises `InputError`, `EngineFailure`."""
        ...

    async def served(self, probe: Sequence[int]) -> list[Served]:
        """What each of its servers makes of the text `probe`. Raises `EngineFailure`."""
        ...

    async def renew(self, directory: Path) -> None:
        """Begin again with the weights in `directory`, after `load` left others. Raises `EngineFailure`."""
        ...


def open_engine(settings: RolloutSettings, needs: Needs) -> OutsideEngine:
    """The engine that `settings` name. Raises `InputError`, `MissingRequirement`."""
    return cast(OutsideEngine, import_module(f"eto.engines.{settings.engine}").open_engine(settings, needs))


def simulator_start(settings: RolloutSettings) -> StartWorker:
    """Starts simulators' worker processes where `settings` say: on this machine, or on a cluster."""
    if settings.engine == "ray" and (ray := settings.ray or RaySettings()).simulators:
        from eto.engines.ray.simulators import starting

        return starting(ray)
    return WorkerProcess
