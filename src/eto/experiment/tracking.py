"""A run's metrics, sent to experiment trackers while it goes on.

Each tracker has a thread that reads metrics.jsonl as it grows. So training never waits for one, and what a
tracker missed, because the run was killed or the tracker failed, is sent at the next start. How many rows
each has is kept in `tracking/<name>.json` of the run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eto.data.files import disk_errors, read_json, write_json
from eto.data.stored import spread_episodes
from eto.data.texts import shorten, shown
from eto.errors import InputError, MissingRequirement
from eto.experiment.run import Run
from eto.experiment.tracked_rows import Point, Points
from eto.experiment.trackers import Begun, Tracker, check_installed
from eto.experiment.watch import Watcher
from eto.types import Trajectory

START_SECONDS = 300.0
"""Longest wait for a tracker to begin; wandb itself gives up after 90."""
END_SECONDS = 30.0
"""Longest wait at the end for what a tracker still has to take."""
POLL_SECONDS = 1.0
LONGEST_REASON = 300


@contextmanager
def tracked(run: Run, watch: Watcher) -> Iterator[None]:
    """Send the metrics of `run` to the trackers of its recipe within this block, and those of earlier starts
    that they lack.

    Raises `MissingRequirement` for a tracker that is not installed or does not begin. One that fails later is
    left alone for the rest of this start, with a line to `watch`.
    """
    settings = run.recipe.tracking
    check_installed(run.recipe)
    directory = Path(settings.directory) if settings.directory else run.directory / "tracking"
    followers: list[_Follower] = []
    try:
        for name in settings.trackers:
            for place in (directory, run.directory / "tracking"):
                with disk_errors(place):
                    place.mkdir(parents=True, exist_ok=True)
            follower = _Follower(name, run, directory, watch)
            followers.append(follower)
            follower.begin()
        yield
    finally:
        for follower in followers:
            follower.end.set()
        for follower in followers:
            follower.join(END_SECONDS)
            if follower.is_alive():
                watch.say(f"{follower.tracker} has not taken all yet; the next start sends the rest")


class _Follower(threading.Thread):
    """Reads metrics.jsonl and sends to one tracker what that has not got yet."""

    def __init__(self, tracker: str, run: Run, directory: Path, watch: Watcher) -> None:
        super().__init__(name=f"tracking-{tracker}", daemon=True)
        self.tracker, self.end = tracker, threading.Event()
        self._run, self._watch, self._directory = run, watch, directory
        self._metrics = run.directory / "metrics.jsonl"
        self._record = run.directory / "tracking" / f"{tracker}.json"
        self._place = {"directory": str(directory.absolute()), "project": run.recipe.tracking.project}
        kept = read_json(self._record) if self._record.exists() else {}
        here = all(kept.get(name) == value for name, value in self._place.items())
        self._kept: dict[str, Any] = kept if here else {}
        self._begun, self._failure = threading.Event(), ""

    def begin(self) -> None:
        """Start, and wait until the tracker has begun. Raises `MissingRequirement` where it does not."""
        self.start()
        ready = self._begun.wait(START_SECONDS)
        if not ready or self._failure:
            raise MissingRequirement(
                f"it does not begin: {self._failure or f'no answer within {START_SECONDS:.0f} s'}",
                where=f"tracking: {self.tracker}",
                hint=f"see to it, or go on without: tracking.trackers without {self.tracker}",
            )

    def run(self) -> None:
        """Body of the thread."""
        try:
            opened = Tracker(
                self.tracker, Begun(self._run.recipe, self._directory, self._kept.get("identity", ""))
            )
            self._keep(self._kept.get("rows", 0), opened.identity)
            self._begun.set()
            try:
                self._follow(opened)
            finally:
                opened.close()
        except Exception as error:  # whatever a tracker raises, training goes on
            self._fail(error)

    def _follow(self, opened: Tracker) -> None:
        """Send what the tracker lacks, until the run ends; then the rest."""
        sent: int = self._kept["rows"]
        numbered, seen = Points(), 0
        for batch in grown(self._metrics, self.end):
            for row in batch:
                point, seen = numbered.of(row), seen + 1
                if seen > sent:
                    opened.send(point, self._episodes(point) if opened.shows_episodes else ())
            if seen > sent:
                sent = seen
                self._keep(sent, opened.identity)

    def _episodes(self, point: Point) -> list[Trajectory]:
        """A sample of the episodes that were measured."""
        if point.played is None:
            return []
        store, most = self._run.directory / "trajectories.sqlite", self._run.recipe.tracking.episodes
        try:
            return spread_episodes(store, point.played.text, most)
        except InputError as error:  # figures are worth more than a sample
            self._watch.say(f"{self.tracker} shows no episodes of {point.played.text}: {error.problem}")
            return []

    def _keep(self, rows: int, identity: str) -> None:
        self._kept = {**self._place, "rows": rows, "identity": identity}
        write_json(self._record, self._kept)

    def _fail(self, error: Exception) -> None:
        reason = shorten(shown(f"{type(error).__name__}: {error}", line=True), LONGEST_REASON)
        if not self._begun.is_set():
            self._failure = reason
            self._begun.set()
        else:
            self._watch.say(f"{self.tracker} fails and is left alone until the next start: {reason}")


def grown(path: Path, end: threading.Event) -> Iterator[list[dict[str, Any]]]:
    """The rows of a JSON-lines file, then those that are added, whole lines only; a last look after `end`."""
    read, rest = 0, b""
    while True:
        last = end.is_set()
        if path.exists():
            with path.open("rb") as file:
                file.seek(read)
                fresh = file.read()
            read += len(fresh)
            *lines, rest = (rest + fresh).split(b"\n")
            yield [json.loads(line) for line in lines]
        if last:
            return
        end.wait(POLL_SECONDS)
