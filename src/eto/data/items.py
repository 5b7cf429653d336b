"""One item of a data file, in any known form, as our record; items of several files one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eto.data.checks import bad, reward_of
from eto.data.foreign.conversations import trajectory_from_conversation
from eto.data.foreign.forms import unknown_form
from eto.data.foreign.preferences import is_preference, pair_from_item
from eto.data.jsonfiles import stream_items
from eto.data.jsontext import parse_json
from eto.data.notes import Notes
from eto.data.records import pair_from_record, trajectory_from_record
from eto.types import Pair, Trajectory

TAKEN = "trajectories whose task, source and sample were taken, numbered again"
BY_SUCCESS = "rewards taken from `success`"
BY_EXPERT = "items without reward, read as an expert's successes"
_TEXTS = ("payload", "tools")
"""Fields of our own that hold any JSON, and stand in tables as its text."""


@dataclass(slots=True)
class Numbers:
    """The samples of each task and source that are taken."""

    _taken: set[tuple[str, str, int]] = field(default_factory=set)
    _free: dict[tuple[str, str], int] = field(default_factory=dict)

    def give(self, trajectory: Trajectory, notes: Notes, *, keep: bool) -> Trajectory:
        """`trajectory`, with the next free number where its own is taken, or, without `keep`, at any rate."""
        group = trajectory.task.id, trajectory.source
        if not keep or (*group, trajectory.sample) in self._taken:
            number = self._free.get(group, 0)
            while (*group, number) in self._taken:
                number += 1
            self._free[group] = number + 1
            if keep:
                notes.events[TAKEN] += 1
            trajectory = replace(trajectory, sample=number)
        self._taken.add((*group, trajectory.sample))
        return trajectory


@dataclass(slots=True)
class ItemReader:
    """Reads items as trajectories and pairs, in whatever form each of them is.

    `notes` counts what was left out, replaced or read by a rule. Trajectories of one task and source are
    numbered over all that it reads.
    """

    source: str | None = None
    """Who acted: for other tools' forms where the item does not say `expert` if this is None; given, it
    overrides the item."""
    by_success: bool = False
    """Whether an item without a reward may have it from its `success`, or else from `reward`."""
    reward: float | None = None
    """Reward of items that state neither; None: an expert's is 1, others are refused."""
    notes: Notes = field(default_factory=Notes)
    _numbers: Numbers = field(default_factory=Numbers)
    _pairs: int = 0

    def stream(self, path: str | Path) -> Iterator[Trajectory | Pair]:
        """The records of a file, one at a time. Raises `InputError` naming place and field."""
        for where, item in stream_items(path, self.notes):
            yield self.pair(item, where) if is_pair(item) else self.trajectory(item, where)

    def trajectory(self, item: dict[str, Any], where: str) -> Trajectory:
        """Raises `InputError` for an item that is none."""
        own = "task" in item and "chosen" not in item
        own = own and (isinstance(item["task"], dict) or not _has_conversation(item))
        if own:
            made = trajectory_from_record(_unpacked(item, where), where)
            made = made if self.source is None else replace(made, source=self.source)
        elif _has_conversation(item):
            item = self._rewarded(item, where) if self.by_success else item
            made = trajectory_from_conversation(item, where, source=self.source, notes=self.notes)
        else:
            raise unknown_form(item, where, "`conversations`, `messages`, or our own `task` and `turns`")
        return self._numbers.give(made, self.notes, keep=own)

    def pair(self, item: dict[str, Any], where: str) -> Pair:
        """Raises `InputError` for an item that is none. Those without id are named by their number."""
        number, self._pairs = self._pairs, self._pairs + 1
        if is_own_pair(item):
            return pair_from_record(_unpacked(item, where), where)
        return pair_from_item(item, where, number, notes=self.notes)

    def _rewarded(self, item: dict[str, Any], where: str) -> dict[str, Any]:
        """`item` with the reward that follows from what else it says."""
        meta = item.get("meta")
        if item.get("reward") is not None or (isinstance(meta, dict) and "reward" in meta):
            return item
        if isinstance(success := item.get("success"), bool):
            self.notes.events[BY_SUCCESS] += 1
            return {**item, "reward": success}
        if self.reward is not None:
            return {**item, "reward": reward_of(self.reward, where)}
        if self.source is None and item.get("source") in (None, "", "expert"):
            self.notes.events[BY_EXPERT] += 1
        return item


def is_pair(item: dict[str, Any]) -> bool:
    """Whether an item holds two sides, in our form or another."""
    return is_own_pair(item) or is_preference(item)


def is_own_pair(item: dict[str, Any]) -> bool:
    """Whether an item is a pair in our own form."""
    return isinstance(item.get("chosen"), dict) and not {"role", "from"} & item["chosen"].keys()


def _has_conversation(item: dict[str, Any]) -> bool:
    return any(item.get(key) is not None for key in ("conversations", "messages"))


def _unpacked(item: dict[str, Any], where: str) -> dict[str, Any]:
    """Our own record out of a table, where fields that hold any JSON are texts."""
    made = dict(item)
    for key in ("task", "chosen", "rejected"):
        if isinstance(made.get(key), dict):
            made[key] = _unpacked(made[key], where)
    for key in _TEXTS:
        if isinstance(made.get(key), str):
            made[key] = parse_json(made[key], f"{where}, field '{key}'")
            if not isinstance(made[key], dict if key == "payload" else list):
                raise bad(where, key, "is not the JSON that belongs here", "write the file again")
    return made
