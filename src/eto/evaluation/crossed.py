"""Differences over tasks and seeds that are both drawn anew: what a further seed may bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def crossed_bounds(
    runs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bounds of the mean of first minus second, each run (seed) a pair of maps from task id to number.

    A resample draws runs and, independently, tasks, and takes the cells in which they cross (the pigeonhole
    bootstrap; Owen, Annals of Applied Statistics 2007), so that it speaks of seeds to come too, where
    `statistics.pooled_difference` speaks of these seeds. It tends to be wide rather than narrow, but of a
    few seeds it knows no more than they show. NaN with fewer than two runs or two common tasks.
    """
    import numpy as np

    differences, there = _cells(runs)
    seeds, tasks = differences.shape
    if seeds < 2 or tasks < 2:
        return nan, nan
    generator = np.random.default_rng(seed)
    of_runs = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    of_tasks = generator.multinomial(tasks, np.full(tasks, 1 / tasks), size=resamples)
    sums = ((of_runs @ differences) * of_tasks).sum(axis=1)
    counts = ((of_runs @ there) * of_tasks).sum(axis=1)
    means = sums[counts > 0] / counts[counts > 0]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def seed_bounds(
    runs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
) -> dict[str, float | None]:
    """`crossed_bounds` as `seeds_low` and `seeds_high`, None where they are not known."""
    low, high = crossed_bounds(runs)
    return {"seeds_low": None if isnan(low) else low, "seeds_high": None if isnan(high) else high}


def _cells(
    runs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
) -> tuple[np.ndarray, np.ndarray]:
    """(runs, tasks): the differences, 0 where one of the two has none, and where there is one, as 0 or 1."""
    import numpy as np

    tasks = sorted({task for first, second in runs for task in first.keys() & second.keys()})
    there = [[task in first and task in second for task in tasks] for first, second in runs]
    cells = [
        [first[task] - second[task] if both else 0.0 for task, both in zip(tasks, row, strict=True)]
        for (first, second), row in zip(runs, there, strict=True)
    ]
    shape = (len(runs), len(tasks))
    return np.array(cells, dtype=float).reshape(shape), np.array(there, dtype=float).reshape(shape)
