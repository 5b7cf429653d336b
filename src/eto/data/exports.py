"""Trajectories and pairs in the forms of other tools, what each form carries, and where it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from eto.data.columns import columns_of
from eto.data.foreign.told import (
    trajectory_to_agenttraj,
    trajectory_to_openai,
    trajectory_to_sharegpt,
    trajectory_to_trl,
)
from eto.data.foreign.written import pair_to_sharegpt, pair_to_trl
from eto.data.inspect_log import FORM as INSPECT
from eto.data.notes import Notes
from eto.data.records import pair_to_record, trajectory_to_record
from eto.data.sinks import open_sink
from eto.errors import InputError
from eto.types import Pair, Trajectory

TABLE = "data/train.parquet"
"""Where the records stand in a folder for a model hub."""
Kind = Literal["trajectory", "pair"]
PLURAL: Mapping[Kind, str] = {"trajectory": "trajectories", "pair": "pairs"}
Maker = Callable[[Any], dict[str, Any]]

MAKERS: Mapping[Kind, Mapping[str, Maker]] = {
    "trajectory": {
        "own": trajectory_to_record,
        "sharegpt": trajectory_to_sharegpt,
        "agenttraj": trajectory_to_agenttraj,
        "openai": trajectory_to_openai,
        "trl": trajectory_to_trl,
    },
    "pair": {"own": pair_to_record, "sharegpt": pair_to_sharegpt, "trl": pair_to_trl},
}
FORMS: Mapping[Kind, tuple[str, ...]] = {
    "trajectory": (*MAKERS["trajectory"], INSPECT),
    "pair": tuple(MAKERS["pair"]),
}
"""All forms; logs of Inspect are written as a whole, not item by item."""
_OF_TURNS = "token ids, log-probabilities, rewards of single turns, scores, seeds, why an episode ended"
_STAYS = f"{_OF_TURNS}, what a task is reset by, and an observation that nothing answers"
LEFT_BEHIND: Mapping[str, str] = {
    "own": "",
    "sharegpt": f"ShareGPT has no place for {_STAYS}; items with calls, tools or thoughts are left out",
    "agenttraj": (
        f"AgentTraj has no place for {_STAYS}; a system message becomes a first exchange; "
        "items with calls, tools or thoughts are left out"
    ),
    "openai": f"OpenAI messages have no place for {_STAYS}",
    "trl": (
        f"TRL has no place for {_STAYS}; items with a turn without loss are left out. Train with "
        "assistant_only_loss=True, which trains replies of the prompt as well"
    ),
    INSPECT: (
        "Inspect logs have no place for token ids, log-probabilities, functions that were not called, and "
        "what a task is reset by; eto import does not read them"
    ),
    "pair/sharegpt": (
        f"ShareGPT pairs have no place for rewards, sources, {_STAYS}; those with calls, tools or thoughts "
        "are left out"
    ),
    "pair/trl": (
        f"TRL pairs have no place for rewards, sources, {_STAYS}; those with a turn without loss are "
        "left out. "
        "TRL's DPO trains observations too (docs/differences.md)"
    ),
}


def maker_of(kind: Kind, form: str) -> Maker:
    """What makes an item of a record. Raises `InputError` for a form that the kind does not have."""
    if form not in MAKERS[kind]:
        hint = f"use one of {', '.join(FORMS[kind])}"
        raise InputError(f"{PLURAL[kind]} have no form {form!r}", where="--format", hint=hint)
    return MAKERS[kind][form]


def left_behind(kind: Kind, form: str) -> str:
    """What the form has no place for, in one sentence; "" where it has a place for everything."""
    return LEFT_BEHIND.get(f"{kind}/{form}", LEFT_BEHIND[form])


def export(records: Iterable[Trajectory | Pair], kind: Kind, form: str, path: Path, notes: Notes) -> int:
    """Write records of one kind to `path`, one at a time, in a form; how many were written.

    Those that the form has no place for are left out and counted in `notes`. Raises `InputError` for an
    unknown form, and where nothing is left; see `open_sink` for names and other errors.
    """
    make = maker_of(kind, form)
    written = 0
    with open_sink(path, columns_of(kind, form)) as write:
        for record in records:
            try:
                item = make(record)
            except InputError as error:
                notes.events[f"{PLURAL[kind]} left out, {error.problem} ({error.hint})"] += 1
                continue
            write(item)
            written += 1
        if not written:
            why = "; ".join(notes.lines()) or "nothing matches"
            raise InputError(f"no {PLURAL[kind]} to write: {why}", hint="change the filters, or --format")
    return written
