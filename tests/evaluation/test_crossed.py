"""Intervals over tasks and seeds, worked out by hand where they can be."""

from __future__ import annotations

from math import isnan

import pytest

from eto.evaluation.crossed import crossed_bounds
from eto.evaluation.statistics import pooled_difference

ZERO = {f"task {number}": 0.0 for number in range(20)}


def always(value: float) -> dict[str, float]:
    return dict.fromkeys(ZERO, value)


def test_seeds_that_differ_widen_what_equal_tasks_leave_without_width() -> None:
    """All tasks of a seed differ by the same: the tasks' interval is one point, a resample of the seeds is
    the mean of two draws of 0 and 1: 0, 1/2 or 1."""
    runs = [(always(0.0), ZERO), (always(1.0), ZERO)]
    pooled = pooled_difference(runs)
    assert (pooled.mean, pooled.low, pooled.high) == (0.5, 0.5, 0.5)
    assert crossed_bounds(runs) == (0.0, 1.0)
    assert crossed_bounds(runs, confidence=0.4) == (0.5, 0.5), "half of the resamples are there"


def test_equal_seeds_leave_the_interval_of_the_tasks() -> None:
    some = {task: float(number < 10) for number, task in enumerate(ZERO)}
    pooled = pooled_difference([(some, ZERO)] * 3)
    low, high = crossed_bounds([(some, ZERO)] * 3)
    assert low == pytest.approx(pooled.low, abs=0.06) and high == pytest.approx(pooled.high, abs=0.06)


def test_a_task_that_one_seed_lacks_weighs_less() -> None:
    first = {"a": 1.0, "b": 1.0}
    assert crossed_bounds([(first, {"a": 0.0, "b": 0.0}), (first, {"a": 0.0})]) == (1.0, 1.0)


@pytest.mark.parametrize("runs", [[], [(always(1.0), ZERO)], [({"a": 1.0}, {"a": 0.0})] * 3])
def test_too_little_has_no_bounds(runs: list) -> None:
    assert all(map(isnan, crossed_bounds(runs)))
