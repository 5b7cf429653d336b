"""Splits given as ranges of numbers: data indices of a server, or seeds."""

from __future__ import annotations

from collections.abc import Mapping

from eto.errors import InputError


def disjoint_ranges(given: Mapping[str, list[int]], suite: str) -> dict[str, range]:
    """Splits from [first, one after the last]. Raises `InputError` where they overlap or are no ranges."""
    ranges: dict[str, range] = {}
    for name, ends in given.items():
        if len(ends) != 2 or not 0 <= ends[0] <= ends[1]:
            mend = "the first number and the one after the last, for example [0, 100]"
            raise InputError(f"{ends!r} is no range", where=f"{suite}.{name}", mend=mend)
        for other, taken in ranges.items():
            if max(ends[0], taken.start) < min(ends[1], taken.stop):
                problem, mend = f"it overlaps with {other}", "give each split numbers of its own"
                raise InputError(problem, where=f"{suite}.{name}", mend=mend)
        ranges[name] = range(*ends)
    return ranges
