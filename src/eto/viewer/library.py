"""The runs under the directories that a user names, and what is known of each."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from eto.data.formats import read_pairs
from eto.data.pair_scores import FILE as SCORES
from eto.data.pair_scores import PairScores, read_scores
from eto.errors import EtoError, InputError
from eto.evaluation.results import read_stages
from eto.experiment.recipe import Recipe, load_recipe
from eto.experiment.run_records import read_manifest
from eto.methods import declared_stages
from eto.types import Pair
from eto.viewer.index import EpisodeIndex

DEEPEST = 4
"""Levels below a named directory in which runs are looked for."""
RUN_FILE = "recipe.yaml"
LATELY = 300.0
"""Seconds without a word after which a run on another machine counts as stopped."""
_HOLDER = re.compile(r"pid (?P<pid>\d+) on (?P<host>\S+)")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is written of a run besides its episodes."""

    recipe: Recipe
    agents: list[str]
    """In the order in which they are made; the first is the one that others are compared with."""
    shipped: str
    """The agent that the run recommends; "" while it does not."""
    reason: str
    stages: list[dict[str, Any]]
    """The finished ones."""
    taken_from: dict[str, Any] | None

    @property
    def seconds(self) -> float:
        return float(sum(stage["seconds"] for stage in self.stages))


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
        """What its recipe and its finished stages say. Raises `EtoError` where they cannot be read."""
        stamp = stamp_of(self.directory / RUN_FILE, *self.directory.glob("stages/*/DONE"))
        if self._facts is None or self._stamp != stamp:
            self._facts, self._stamp = self._read(), stamp
        return self._facts

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

    def _read(self) -> Facts:
        recipe = load_recipe(self.directory / RUN_FILE, note=False)
        stages = read_stages(self.directory)
        named = [stage["metrics"] for stage in stages if "shipped" in stage["metrics"]]
        declared = [stage.agent for stage in declared_stages(recipe.method) if stage.agent]
        noted = [str(stage["agent"]) for stage in stages if stage.get("agent")]
        try:
            taken_from = read_manifest(self.directory).get("taken_from")
        except EtoError:
            taken_from = None
        return Facts(
            recipe,
            list(dict.fromkeys([*declared, *noted])),
            str(named[-1]["shipped"]) if named else "",
            str(named[-1].get("reason", "")) if named else "",
            stages,
            taken_from,
        )

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
    if (directory / RUN_FILE).is_file():
        yield directory
        return
    if levels:
        try:
            inner = sorted(path for path in directory.iterdir() if path.is_dir() and path.name[0] != ".")
        except OSError:
            return
        for path in inner:
            yield from _run_directories(path, levels - 1)
