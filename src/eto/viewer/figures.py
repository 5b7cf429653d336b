"""Figures of agents from what the index holds, without reading a record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from eto.evaluation.statistics import mean_interval, paired_difference, rate_interval
from eto.types import Phase
from eto.viewer.index import Entry

Values = tuple[tuple[str, float], ...]
"""Task id -> mean over its samples, as a value that can be remembered."""


def by_agent(entries: Iterable[Entry], split: str, agents: Sequence[str]) -> dict[str, list[Entry]]:
    """The episodes of each of `agents` on a split, in the order of `agents`; without those that have none."""
    found: dict[str, list[Entry]] = {name: [] for name in agents}
    for entry in entries:
        phase = Phase.parse(entry.phase)
        if phase.purpose == "evaluate" and phase.split == split and phase.name in found:
            found[phase.name].append(entry)
    return {name: played for name, played in found.items() if played}


def splits_of(entries: Iterable[Entry]) -> list[str]:
    """The splits that agents have played, the test first."""
    phases = {Phase.parse(text) for text in {entry.phase for entry in entries}}
    found = {phase.split for phase in phases if phase.purpose == "evaluate"}
    return sorted(found, key=lambda split: (split != "test", split))


def agent_figures(played: Mapping[str, Sequence[Entry]], baseline: str) -> dict[str, dict[str, Any]]:
    """Agent -> `tasks`, `failed`, `reward`, `success`, `turns` with 95% intervals over tasks, and
    `difference` to the baseline."""
    figures: dict[str, dict[str, Any]] = {}
    base = {name: _by_task(played.get(baseline, ()), value) for name, value in _VALUES.items()}
    for agent, entries in played.items():
        own = {name: _by_task(entries, value) for name, value in _VALUES.items()}
        row: dict[str, Any] = {name: _interval(values, name == "success") for name, values in own.items()}
        row |= {"tasks": len(own["reward"]), "failed": sum(entry.failed for entry in entries)}
        if agent != baseline and base["reward"]:
            row["difference"] = {name: _difference(own[name], base[name]) for name in ("reward", "success")}
        figures[agent] = row
    return figures


def kind_figures(
    played: Mapping[str, Sequence[Entry]],
) -> list[tuple[str, int, list[tuple[float | None, ...]]]]:
    """Task type, its tasks, and each agent's mean reward and success rate there."""
    kinds = sorted({entry.kind for entries in played.values() for entry in entries})
    rows = []
    for kind in kinds:
        of_kind = [[entry for entry in entries if entry.kind == kind] for entries in played.values()]
        tasks = max(len({entry.task for entry in entries}) for entries in of_kind)
        cells = [
            tuple(_mean(_by_task(entries, _VALUES[name])) for name in ("reward", "success"))
            for entries in of_kind
        ]
        rows.append((kind, tasks, cells))
    return rows


_VALUES: Mapping[str, Callable[[Entry], float | None]] = {
    "reward": lambda entry: entry.reward,
    "success": lambda entry: None if entry.success is None else float(entry.success),
    "turns": lambda entry: float(entry.turns),
}


def _by_task(entries: Iterable[Entry], value: Callable[[Entry], float | None]) -> Values:
    found: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if not entry.failed and (number := value(entry)) is not None:
            found[entry.task].append(number)
    return tuple((task, sum(numbers) / len(numbers)) for task, numbers in sorted(found.items()))


def _mean(values: Values) -> float | None:
    return sum(number for _, number in values) / len(values) if values else None


@lru_cache(4096)
def _interval(values: Values, rate: bool) -> dict[str, Any]:
    interval = rate_interval if rate else mean_interval
    return interval([number for _, number in values]).to_dict()


@lru_cache(4096)
def _difference(one: Values, other: Values) -> dict[str, Any]:
    return paired_difference(dict(one), dict(other)).to_dict()
