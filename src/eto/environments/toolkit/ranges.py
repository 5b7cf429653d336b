"""Splits given as ranges of numbers: data indices of a server, or seeds."""

from __future__ import annotations

from collections.abc import Mapping

from eto.errors import InputError
from eto.types import Task

MOST_TASKS = 1_000_000
"""Of a split: more of them are a slip, and would fill the memory before the first is played."""


def disjoint_ranges(given: Mapping[str, list[int]], suite: str) -> dict[str, range]:
    """Splits from [first, one after the last]. Raises `InputError` where they overlap or are not ranges."""
    ranges: dict[str, range] = {}
    for name, ends in given.items():
        if len(ends) != 2 or not 0 <= ends[0] <= ends[1]:
            hint = "the first number and the one after the last, for example [0, 100]"
            raise InputError(f"{ends!r} is not a range", where=f"{suite}.{name}", hint=hint)
        if ends[1] - ends[0] > MOST_TASKS:
            problem, hint = f"{ends!r} has {ends[1] - ends[0]} tasks", f"at most {MOST_TASKS} in a split"
            raise InputError(problem, where=f"{suite}.{name}", hint=hint)
        for other, taken in ranges.items():
            if max(ends[0], taken.start) < min(ends[1], taken.stop):
                problem, hint = f"it overlaps with {other}", "give each split numbers of its own"
                raise InputError(problem, where=f"{suite}.{name}", hint=hint)
        ranges[name] = range(*ends)
    return ranges


def range_tasks(ranges: Mapping[str, range], split: str, suite: str, key: str, kind: str = "") -> list[Task]:
    """A task for each number of `split`, its payload under `key`; `kind` is the suite's name where not given.

    Raises `InputError` for an unknown split.
    """
    if split not in ranges:
        raise InputError(f"unknown split {split!r}", where=suite, hint=f"one of {', '.join(ranges)}")
    prefix = f"{suite}/{kind}" if kind else suite
    return [Task(f"{prefix}/{each}", suite, kind or suite, split, {key: each}) for each in ranges[split]]
