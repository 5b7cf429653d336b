"""The runs under the directories that a user names, and what is known of each."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from eto.data.formats import read_pairs
from eto.data.pair_scores import FILE as SCORES
from eto.data.pair_scores import PairScores, read_scores
from eto.errors import InputError
from eto.evaluation.facts import Facts, read_facts
from eto.experiment.recipe import RUN_FILE, is_run
from eto.types import Pair, Phase
from eto.viewer.index import EpisodeIndex

DEEPEST = 4
"""Levels below a named directory in which runs are looked for."""
LATELY = 300.0
"""Seconds without a word after which a run on another machine counts as stopped."""
_HOLDER = re.compile(r"pid (?P<pid>\d+) on (?P<host>\S+)")


@dataclass(slots=True)
class Shown:
    """A run as the viewer knows it."""

    name: str
    """Its path below the directory that was named: what addresses it."""
    directory: Path
    index: EpisodeIndex
    _facts: Facts | None = None
    _stamp: tuple[float, ...] = ()

    def facts(self) -> Facts:
        """What its recipe and its finished stages say, and what of them could not be read."""
        stamp = stamp_of(self.directory / RUN_FILE, *self.directory.glob("stages/*/DONE"))
        if self._facts is None or self._stamp != stamp:
            self._facts, self._stamp = read_facts(self.directory), stamp
        return self._facts

    def agents(self) -> list[str]:
        """The agents in their order; where the recipe cannot be read, in that of their episodes."""
        facts = self.facts()
        if facts.recipe is not None:
            return facts.agents
        phases = map(Phase.parse, dict.fromkeys(entry.phase for entry in self.index.entries()))
        played = [phase.name for phase in phases if phase.purpose == "evaluate" and "/" not in phase.name]
        return list(dict.fromkeys([*played, *facts.agents]))

    def faults(self) -> list[str]:
        """What of the run could not be read, and why; of its episodes, when they were asked for last."""
        return [*self.facts().faults, *([self.index.fault] if self.index.fault else [])]

    def pairs(self, number: str) -> list[Pair]:
        """The pairs of a round. Raises `InputError` where it has none."""
        path = self.directory / "stages" / f"contrast-{number}" / "pairs.jsonl"
        if not number.isdigit() or not path.is_file():
            raise InputError(f"round {number} has no pairs", where=self.name)
        return _pairs(path, stamp_of(path))

    def scores(self, number: str) -> dict[int, PairScores]:
        """Place of a pair of a round -> what training on it did to its turns; empty where none was scored.
        Raises `InputError` for a damaged record."""
        return read_scores(self.directory / "stages" / f"dpo-{number}" / SCORES)

    @property
    def under_way(self) -> bool:
        """Whether the process that opened it last, by its note in the lock file, still lives; of one on
        another machine, whether it has written lately. The lock itself is left alone."""
        path = self.directory / "lock"
        try:
            noted, since = path.read_text(encoding="utf-8", errors="replace"), path.stat().st_mtime
        except OSError:
            return False
        match = _HOLDER.match(noted)
        if match is None:
            return False
        if match["host"] != socket.gethostname():
            return time.time() - self.last_written < LATELY
        try:
            return psutil.Process(int(match["pid"])).create_time() <= since
        except psutil.Error:
            return False

    @property
    def last_written(self) -> float:
        """When a file of it was written last, in seconds since 1970."""
        store = self.directory / "trajectories.sqlite"
        paths = [
            store,
            Path(f"{store}-wal"),
            self.directory / "metrics.jsonl",
            self.directory / "manifest.json",
        ]
        return max(stamp_of(*paths), default=0.0)


def stamp_of(*paths: Path) -> tuple[float, ...]:
    """When each of `paths` was written, by which a change of them is seen."""
    return tuple(path.stat().st_mtime for path in sorted(paths) if path.exists())


@lru_cache(4)
def _pairs(path: Path, stamp: tuple[float, ...]) -> list[Pair]:
    return read_pairs(path) if path.stat().st_size else []


class Library:
    """The runs below some directories, looked for again each time they are listed."""

    def __init__(self, roots: Iterable[Path]) -> None:
        """Raises `InputError` for a directory that is not there."""
        self.roots = [root.resolve() for root in roots]
        for root in self.roots:
            if not root.is_dir():
                hint = "name the directory of a run, or one that holds runs"
                raise InputError("there is no such directory", where=str(root), hint=hint)
        self._runs: dict[str, Shown] = {}

    def runs(self) -> Mapping[str, Shown]:
        """Runs by name."""
        found: dict[str, Shown] = {}
        seen: set[Path] = set()
        for root in self.roots:
            for directory in sorted(_run_directories(root, DEEPEST)):
                if directory in seen:
                    continue
                seen.add(directory)
                name = directory.name if directory == root else str(directory.relative_to(root))
                while name in found and found[name].directory != directory:
                    name = f"{root.name}/{name}"
                known = self._runs.get(name)
                if known is None or known.directory != directory:
                    known = Shown(name, directory, EpisodeIndex(directory / "trajectories.sqlite"))
                found[name] = known
        self._runs = found
        return found

    def run(self, name: str) -> Shown:
        """Raises `InputError` for a name that no run has: no other path is ever opened."""
        known = self._runs.get(name) or self.runs().get(name)
        if known is None:
            raise InputError("there is no such run", where=name, hint="go back to the list of runs")
        return known


def _run_directories(directory: Path, levels: int) -> Iterable[Path]:
    if is_run(directory):
        yield directory
        return
    below = False
    for path in _folders(directory) if levels else ():
        for run in _run_directories(path, levels - 1):
            below = True
            yield run
    if not below and (directory / RUN_FILE).is_file():  # stopped as it began
        yield directory


def _folders(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError:
        return []
