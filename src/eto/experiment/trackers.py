"""Experiment trackers by name, opened through `accelerate`'s tracking API, each with what it needs to go on
with a run that it has begun."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from eto.data.foreign.told import said_in_openai
from eto.data.inspect_samples import Played, metadata_of
from eto.data.texts import whole
from eto.errors import MissingRequirement
from eto.experiment.recipe import Recipe, resolved_yaml
from eto.experiment.tracked_rows import Point
from eto.types import Message, Phase, Trajectory

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
        with hushed(name):
            self._tracker, self.identity = _OPEN[name](begun)
        if not begun.identity:
            self._describe(begun.recipe)

    @property
    def shows_episodes(self) -> bool:
        """Whether it has a place for episodes."""
        return self._name == "trackio"

    def send(self, point: Point, episodes: Sequence[Trajectory] = ()) -> None:
        """Show a point, and episodes that it was measured on where it `shows_episodes`."""
        if not point.values and not episodes:
            return
        if self._name == "wandb":  # one count of steps for all that a run logs, unless an axis is declared
            if point.axis not in self._axes:
                self._tracker.tracker.define_metric(f"{point.axis}/*", step_metric=f"{point.axis}/step")
                self._axes.add(point.axis)
            # Offline, its own count would begin again at each start.
            self._tracker.log({**point.values, f"{point.axis}/step": point.step}, step=point.number)
        elif episodes and point.played:
            traces = [trace(episode, point.played) for episode in episodes]
            self._tracker.log({**point.values, f"{point.axis}/episodes": traces}, step=point.step)
        else:
            self._tracker.log(point.values, step=point.step)

    def close(self) -> None:
        """Let it write what it has taken. Raises whatever its package raises."""
        with hushed(self._name):
            self._tracker.finish()

    def _describe(self, recipe: Recipe) -> None:
        if self._name == "tensorboard":  # its table of hyperparameters would be a run of its own
            self._tracker.log({"recipe": f"```yaml\n{resolved_yaml(recipe)}```"}, step=0)
        elif self._name != "trackio":  # which takes it when it is opened
            self._tracker.store_init_configuration(flat(recipe.model_dump(mode="json")))


def trace(episode: Trajectory, phase: Phase) -> Any:
    """An episode as a `trackio.Trace`: OpenAI messages, and metadata as in logs of Inspect, `reward` and
    `success` among them."""
    import trackio

    said: list[Message] = list(episode.messages)
    for turn in episode.turns:
        said.append(Message("assistant", turn.action, turn.reasoning, turn.tool_calls))
        said += turn.answers or ([Message("user", turn.observation)] if turn.observation else [])
    facts = metadata_of(Played(episode, phase.text)) | {"reward": episode.reward}
    if episode.success is not None:
        facts["success"] = episode.success
    messages = [said_in_openai(message, True) for message in said]
    return trackio.Trace(messages=json.loads(whole(json.dumps(messages, ensure_ascii=False))), metadata=facts)


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

    directory = begun.directory / "tensorboard"
    here = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    identity = begun.identity or _free_name(begun.run_name, here)
    tracker = TensorBoardTracker(identity, str(directory))
    tracker.start()
    return tracker, identity


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

    # It goes on with the last run of a name, whoever's that is.
    identity = begun.identity or _free_name(begun.run_name, _trackio_runs(begun.project))
    # At each start: a start without it would replace the one that is kept.
    config = flat(begun.recipe.model_dump(mode="json"))
    tracker = TrackioTracker(begun.project, name=identity, resume="allow", embed=False, config=config)
    tracker.start()
    return tracker, identity


def _trackio_runs(project: str) -> set[str]:
    """Names of the runs that trackio keeps on this machine."""
    import trackio

    try:
        return {run.name for run in trackio.Api().runs(project)}
    except ValueError:  # there is no such project yet
        return set()


def _free_name(name: str, taken: Collection[str]) -> str:
    """`name`, with a number where another run has it."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(each for each in names if each not in taken)


@contextmanager
def hushed(name: str) -> Iterator[None]:
    """Keep what trackio prints off standard output, which carries a run's events. Other threads print on."""
    if name == "trackio":
        with redirect_stdout(_Hushed(sys.stdout)):
            yield
    else:
        yield


class _Hushed(io.TextIOBase):
    """A stream without what the thread writes that made it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._thread else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


_OPEN: Mapping[str, Callable[[Begun], tuple[GeneralTracker, str]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
