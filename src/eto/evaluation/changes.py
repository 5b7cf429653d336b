"""What changed between two agents: the tasks one solved and the other did not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from eto.types import Trajectory

GROUPS = ("gained", "lost", "kept", "missed")
SAME = 1e-9
"""Rewards that differ by no more are equal."""


@dataclass(frozen=True, slots=True)
class Change:
    """Two agents' episodes of one task and sample number."""

    before: Trajectory
    after: Trajectory


@dataclass(frozen=True, slots=True)
class Changes:
    """Tasks that both agents played, by what became of them; failed episodes are left out.

    Where the environment tells of both episodes whether they succeeded, that decides; elsewhere the reward.
    """

    gained: list[Change] = field(default_factory=list)
    """Solved after and not before; of a task without success: a higher reward."""
    lost: list[Change] = field(default_factory=list)
    """Solved before and not after; of a task without success: a lower reward."""
    kept: list[Change] = field(default_factory=list)
    """Solved by both; of a task without success: equal rewards above 0."""
    missed: list[Change] = field(default_factory=list)
    """Solved by neither; of a task without success: 0 twice."""


def changes(before: Iterable[Trajectory], after: Iterable[Trajectory]) -> Changes:
    """What became of the tasks of two agents; the largest difference in reward first, then by task."""
    earlier: Mapping[tuple[str, int], Trajectory] = {(t.task.id, t.sample): t for t in before if not t.failed}
    found = Changes()
    for each in sorted(after, key=lambda t: (t.task.id, t.sample)):
        other = earlier.get((each.task.id, each.sample))
        if other is not None and not each.failed:
            getattr(found, verdict(other, each)).append(Change(other, each))
    for group in (found.gained, found.lost):
        group.sort(key=lambda change: -abs(change.after.reward - change.before.reward))
    return found


class Ended(Protocol):
    """What is known of an episode's end."""

    @property
    def reward(self) -> float: ...

    @property
    def success(self) -> bool | None: ...


def verdict(before: Ended, after: Ended) -> str:
    """What became of a task, one of `GROUPS`; see `Changes`."""
    if before.success is not None and after.success is not None:
        won = before.success, after.success
        return {(False, True): "gained", (True, False): "lost", (True, True): "kept"}.get(won, "missed")
    difference = after.reward - before.reward
    if abs(difference) > SAME:
        return "gained" if difference > 0 else "lost"
    return "kept" if after.reward > SAME else "missed"
