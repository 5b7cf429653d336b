"""What a tracker shows of a run's metrics: each row as values under names, at a step of their own axis."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONFIDENCE = {"low": "reward_low", "high": "reward_high"}
"""How the bounds of a reward's 95% interval are called beside other figures."""
_NO_VALUES = frozenset({"stage", "agent", "step", "steps"})
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./ -]")
"""MLflow takes no other characters in a metric's name."""


@dataclass(frozen=True, slots=True)
class Point:
    """A row of metrics.jsonl as trackers take it."""

    axis: str
    """What its step counts, and the first part of its names: a stage's optimiser steps, or a split's
    evaluations."""
    step: int
    """From 1."""
    values: dict[str, float]
    """Name, such as `dpo-1/loss` -> value, in the unit that the name of its last part states, if any."""


class Points:
    """Makes a point of each row of one run, given in their order.

    A training step keeps its step, which counts within its stage. Evaluations of a split are counted, for a
    curve over agents and checkpoints in the order in which they were measured; each one's reward stands
    under its own name too. Text and null values are left out.
    """

    def __init__(self) -> None:
        self._evaluations: Counter[str] = Counter()

    def of(self, row: Mapping[str, Any]) -> Point:
        """The point of the next row; it may hold no value."""
        axis = metric_name(row["stage"])
        numbers = {
            name: float(value)
            for name, value in row.items()
            if name not in _NO_VALUES and isinstance(value, int | float)
        }
        if "agent" not in row:
            return Point(axis, int(row.get("step", 0)), {f"{axis}/{name}": numbers[name] for name in numbers})
        self._evaluations[axis] += 1
        values = {f"{axis}/{CONFIDENCE.get(name, name)}": value for name, value in numbers.items()}
        if "reward" in numbers:
            values[f"{axis}/of/{metric_name(row['agent'])}"] = numbers["reward"]
        return Point(axis, self._evaluations[axis], values)


def metric_name(text: str) -> str:
    """`text` as every tracker takes it in a name."""
    return _NOT_IN_NAMES.sub("_", str(text))
