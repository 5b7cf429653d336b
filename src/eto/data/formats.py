"""Trajectory and pair files: our own JSON lines in and out, other tools' forms recognised.

Every mistake in a file is an `InputError` naming file, line or item, field, and the hint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from eto.credit.contrast import one_begins_other
from eto.data.foreign.written import pair_to_sharegpt, pair_to_trl
from eto.data.items import ItemReader, is_pair
from eto.data.jsonfiles import json_line, read_items, write_text
from eto.data.notes import Notes
from eto.data.records import pair_from_record, pair_to_record, trajectory_from_record, trajectory_to_record
from eto.errors import InputError
from eto.types import Pair, Trajectory

__all__ = [
    "PairForm",
    "pair_from_record",
    "pair_to_record",
    "read_pairs",
    "read_sides",
    "read_trajectories",
    "trajectory_from_record",
    "trajectory_to_record",
    "write_pairs",
    "write_trajectories",
]

PairForm = Literal["own", "sharegpt", "trl"]


def read_trajectories(
    path: str | Path, *, source: str | None = None, in_place_of_expert: str | None = None
) -> list[Trajectory]:
    """The trajectories of a file, in the file's order; the form is recognised item by item.

    Our own JSON lines; ShareGPT (`conversations` with `from`/`value`: the ETO data and its
    rollouts, AgentTraj); OpenAI messages (`messages` with `role`/`content`), with calls of
    functions and thoughts. JSON lines, a JSON list, `.gz`, Parquet, Arrow, and a directory that
    `datasets` saved. `source` names who acted: for other tools' forms it defaults to the item's
    own `source`, then `expert`; given, it also overrides ours. `in_place_of_expert` renames those
    alone that would be an expert's, so that each must state its reward. Trajectories of one task and
    source are numbered, those of a number that is taken again. What was left out, replaced or
    read by a rule is reported in a warning. Raises `InputError`.
    """
    notes = Notes()
    items = read_items(path, notes)
    if source is None and in_place_of_expert is not None:
        items = [(where, _renamed(item, in_place_of_expert)) for where, item in items]
    reader = ItemReader(source, notes=notes)
    trajectories = [reader.trajectory(item, where) for where, item in items]
    notes.tell(path)
    return trajectories


def _renamed(item: dict[str, Any], name: str) -> dict[str, Any]:
    return {**item, "source": name} if item.get("source") in (None, "", "expert") else item


def write_trajectories(path: str | Path, trajectories: Iterable[Trajectory]) -> None:
    """Write our own JSON lines, all or nothing; compressed where the name ends in `.gz`.

    Raises `MissingRequirement` on a full disk, `InputError` where it may not write.
    """
    write_text(path, (json_line(trajectory_to_record(each)) + "\n" for each in trajectories))


def read_pairs(path: str | Path) -> list[Pair]:
    """The pairs of a file: our own JSON lines, or preference items of other trainers.

    Of the latter, rewards are unknown and stand as 1 and 0; docs/files.md lists the forms. Pairs
    whose sides are equal, or one a prefix of the other, are left out and counted in a warning.
    Files as for `read_trajectories`. Raises `InputError`, also where no pair is left.
    """
    notes = Notes()
    reader = ItemReader(notes=notes)
    pairs = [reader.pair(item, where) for where, item in read_items(path, notes)]
    kept = [pair for pair in pairs if not _nothing_to_prefer(pair, notes)]
    if not kept:
        raise InputError(
            f"none of the {len(pairs)} pairs has anything to prefer: {'; '.join(notes.lines())}",
            where=str(path),
            hint="give pairs whose two sides differ",
        )
    notes.tell(path)
    return kept


def read_sides(path: str | Path) -> list[Trajectory]:
    """The trajectories of a file, or both sides of its pairs, whichever it holds. Raises `InputError`."""
    notes = Notes()
    items = read_items(path, notes)
    reader = ItemReader(notes=notes)
    if is_pair(items[0][1]):
        pairs = [reader.pair(item, where) for where, item in items]
        sides = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    else:
        sides = [reader.trajectory(item, where) for where, item in items]
    notes.tell(path)
    return sides


def _nothing_to_prefer(pair: Pair, notes: Notes) -> bool:
    if not one_begins_other(pair.chosen, pair.rejected):
        return False
    equal = len(pair.chosen.turns) == len(pair.rejected.turns)
    why = "their sides are equal" if equal else "one side is a prefix of the other"
    notes.events[f"pairs left out, {why}"] += 1
    return True


def write_pairs(path: str | Path, pairs: Iterable[Pair], *, form: PairForm = "own") -> None:
    """Write pairs, all or nothing, as JSON lines, or as a JSON list where the name ends in `.json`.

    The forms other than our own keep texts only: no rewards, no token ids. Raises as
    `write_trajectories`, and `InputError` for an unknown form.
    """
    makers = {"own": pair_to_record, "sharegpt": pair_to_sharegpt, "trl": pair_to_trl}
    if form not in makers:
        raise InputError(f"unknown form {form!r}", hint=f"use one of {', '.join(makers)}")
    records = (makers[form](pair) for pair in pairs)
    if Path(path).name.removesuffix(".gz").endswith(".json"):
        write_text(path, [json.dumps(list(records), ensure_ascii=True, indent=1), "\n"])
    else:
        write_text(path, (json_line(record) + "\n" for record in records))
