"""What every benchmark here has in common: alternating contestants, medians, ratios, one JSON a benchmark.

A benchmark is a module with a function `run(quick: bool) -> Outcome`. It measures all contestants in
one process, in turn, so that a slow minute of the machine falls on all of them; it checks that they
computed the same thing; and it says what a ratio was to reach. `__main__` writes
docs/results/speed/<name>.json and `page` makes docs/results/speed.md of all of them.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "speed"


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant's figure: its median over the repetitions, with the extremes."""

    contestant: str
    what: str
    """The unit, for example `tokens/s`."""
    median: float
    low: float
    high: float
    repetitions: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """A claim: a value against its target."""

    what: str
    value: float
    target: float | None = None
    at_most: bool = False
    """The target is an upper bound."""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass(slots=True)
class Outcome:
    """What one benchmark found."""

    title: str
    setting: str
    """Model, data, dtype, threads, in a sentence or two."""
    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    same: str = ""
    """What was compared to see that the contestants computed the same, and how it came out."""
    notes: list[str] = field(default_factory=list)
    """Why a target is missed, what is not measured."""
    pictures: list[str] = field(default_factory=list)
    """File names of plots beside the JSON."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratios": [asdict(ratio) | {"met": ratio.met} for ratio in self.ratios]}


def alternate(
    contestants: Mapping[str, Callable[[], float]], repetitions: int, *, warm_up: int = 0
) -> dict[str, list[float]]:
    """Let the contestants take turns; each returns the figure of one repetition.

    The order is turned round every other repetition. `warm_up` rounds are thrown away.
    """
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm_up + repetitions):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            gc.collect()
            figure = contestants[name]()
            if number >= warm_up:
                found[name].append(figure)
                print(f"    {name}: {figure:.4g}", flush=True)
    return found


def rows(found: Mapping[str, Sequence[float]], what: str) -> list[Row]:
    """One row a contestant."""
    return [
        Row(name, what, statistics.median(figures), min(figures), max(figures), len(figures))
        for name, figures in found.items()
    ]


def median_ratio(found: Mapping[str, Sequence[float]], first: str, second: str) -> float:
    """Median of `first` over the median of `second`."""
    return statistics.median(found[first]) / statistics.median(found[second])
