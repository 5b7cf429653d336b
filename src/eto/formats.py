"""Trajectory and pair files: our own JSON lines in and out, other tools' forms recognised.

Every mistake in a file is an `InputError` naming file, line or item, field, and the mend.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from eto.errors import InputError
from eto.jsonfiles import json_line, read_items, write_text
from eto.records import pair_from_record, pair_to_record, trajectory_from_record, trajectory_to_record
from eto.sharegpt import (
    pair_from_conversations,
    pair_to_sharegpt,
    pair_to_trl,
    trajectory_from_conversation,
)
from eto.types import Pair, Trajectory

__all__ = [
    "PairForm",
    "pair_from_record",
    "pair_to_record",
    "read_pairs",
    "read_trajectories",
    "trajectory_from_record",
    "trajectory_to_record",
    "write_pairs",
    "write_trajectories",
]

PairForm = Literal["own", "sharegpt", "trl"]


def read_trajectories(path: str | Path, *, source: str | None = None) -> list[Trajectory]:
    """The trajectories of a file, in the file's order; the form is recognised item by item.

    Our own JSON lines; ShareGPT (`conversations` with `from`/`value`, a JSON list or
    lines: the ETO data and its rollouts, AgentTraj); OpenAI messages (`messages` with
    `role`/`content`). `.gz` allowed. `source` names who acted: for other tools' forms it
    defaults to the item's own `source`, then `expert`; given, it also overrides ours.
    Raises `InputError`.
    """
    found: list[Trajectory] = []
    samples: dict[tuple[str, str], int] = {}
    for where, item in read_items(path):
        if "turns" in item and "task" in item:
            found.append(_with_source(trajectory_from_record(item, where), source))
        elif "conversations" in item or "messages" in item:
            trajectory = trajectory_from_conversation(item, where, source=source)
            key = (trajectory.source, trajectory.task.id)
            number = samples.get(key, 0)
            samples[key] = number + 1
            found.append(replace(trajectory, sample=number))
        else:
            raise _unknown(where, item, "`conversations`, `messages`, or our own `task` and `turns`")
    return found


def write_trajectories(path: str | Path, trajectories: Iterable[Trajectory]) -> None:
    """Write our own JSON lines, all or nothing; compressed where the name ends in `.gz`.

    Raises `MissingRequirement` on a full disk, `InputError` where it may not write.
    """
    write_text(path, (json_line(trajectory_to_record(each)) + "\n" for each in trajectories))


def read_pairs(path: str | Path) -> list[Pair]:
    """The pairs of a file: our own JSON lines, ShareGPT pairs, or TRL preference.

    The latter two have `prompt`, `chosen` and `rejected` as lists of messages, with
    `from`/`value` or `role`/`content`; their rewards are unknown and stand as 1 and 0.
    Raises `InputError`.
    """
    found = []
    for number, (where, item) in enumerate(read_items(path)):
        if isinstance(item.get("chosen"), dict):
            found.append(pair_from_record(item, where))
        elif "chosen" in item and "rejected" in item:
            found.append(pair_from_conversations(item, where, number))
        else:
            raise _unknown(where, item, "`chosen` and `rejected`")
    return found


def write_pairs(path: str | Path, pairs: Iterable[Pair], *, form: PairForm = "own") -> None:
    """Write pairs, all or nothing, as JSON lines, or as a JSON list where the name ends in `.json`.

    The forms other than our own keep texts only: no rewards, no token ids. Raises as
    `write_trajectories`, and `InputError` for an unknown form.
    """
    makers = {"own": pair_to_record, "sharegpt": pair_to_sharegpt, "trl": pair_to_trl}
    if form not in makers:
        raise InputError(f"unknown form {form!r}", mend=f"use one of {', '.join(makers)}")
    records = (makers[form](pair) for pair in pairs)
    if Path(path).name.removesuffix(".gz").endswith(".json"):
        write_text(path, [json.dumps(list(records), ensure_ascii=True, indent=1), "\n"])
    else:
        write_text(path, (json_line(record) + "\n" for record in records))


def _with_source(trajectory: Trajectory, source: str | None) -> Trajectory:
    return trajectory if source is None else replace(trajectory, source=source)


def _unknown(where: str, item: dict[str, Any], wanted: str) -> InputError:
    fields = ", ".join(list(item)[:6]) or "none"
    return InputError(
        f"unknown form, with the fields {fields}", where=where, mend=f"expected an object with {wanted}"
    )
