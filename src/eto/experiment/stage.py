"""A stage of a run while it is open: what it notes, and the wall time of all its attempts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eto.data.files import write_atomic
from eto.experiment.run_records import noted_seconds
from eto.types import Phase

SECONDS_BETWEEN_NOTES = 2.0


@dataclass(frozen=True, slots=True)
class OpenStage:
    """A stage within its `with` block; see `Run.stage`."""

    name: str
    directory: Path
    """Where it keeps its artefacts."""
    done: bool
    """It was finished before: its results are here, nothing is to be made."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """What it has noted."""
    made: dict[str, Any] = field(default_factory=dict)
    """The phases of the store that it played and the agent it made, as they stand in DONE."""

    def note(self, **metrics: Any) -> None:
        """Keep values, as JSON, in DONE."""
        self.metrics.update(metrics)

    def played(self, *phases: Phase) -> None:
        """Note that episodes of these phases of the store were played in this stage."""
        noted = self.made.setdefault("phases", [])
        noted += [phase.text for phase in phases if phase.text not in noted]

    def makes(self, agent: str) -> None:
        """Note that the model in this stage's directory is that of `agent`."""
        self.made["agent"] = agent


@contextmanager
def stopwatch(path: Path) -> Iterator[Callable[[], float]]:
    """Wall seconds in this block and in earlier ones on `path`, kept there every few seconds."""
    earlier = noted_seconds(path)
    begin, stop = time.monotonic(), threading.Event()

    def seconds() -> float:
        return earlier + time.monotonic() - begin

    def note() -> None:
        while not stop.wait(SECONDS_BETWEEN_NOTES):
            with suppress(OSError):  # the stage's own writes report a full disk
                write_atomic(path, f"{seconds():.3f}\n")

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()
        with suppress(OSError):
            write_atomic(path, f"{seconds():.3f}\n")
