"""What a tracker shows of a run's metrics: each row as values under names, at a step of their own axis."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eto.types import Phase

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
    number: int
    """Of its row among all of the run, from 1."""
    played: Phase | None
    """Of an evaluation: where its episodes are in the store."""
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
        self._rows = 0

    def of(self, row: Mapping[str, Any]) -> Point:
        """The point of the next row; it may hold no value."""
        axis = metric_name(row["stage"])
        self._rows += 1
        numbers = {
            name: float(value)
            for name, value in row.items()
            if name not in _NO_VALUES and isinstance(value, int | float)
        }
        if "agent" not in row:
            values = {f"{axis}/{name}": value for name, value in numbers.items()}
            return Point(axis, int(row.get("step", 0)), self._rows, None, values)
        self._evaluations[axis] += 1
        values = {f"{axis}/{CONFIDENCE.get(name, name)}": value for name, value in numbers.items()}
        if "reward" in numbers:
            values[f"{axis}/of/{_one_part(row['agent'])}"] = numbers["reward"]
        played = Phase.evaluate(str(row["agent"]), str(row["stage"]))
        return Point(axis, self._evaluations[axis], self._rows, played, values)


def metric_name(text: str) -> str:
    """`text` as every tracker takes it in a name."""
    return _NOT_IN_NAMES.sub("_", str(text))


def _one_part(agent: str) -> str:
    """An agent's name without parts: MLflow may keep `sft` as a file and `sft/epoch-1` in a directory."""
    return metric_name(str(agent).replace("/", "."))
