"""What two agents make of the turns of pairs: summed log-probs, kept beside the stage that learnt of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eto.data.files import disk_errors, read_rows, write_atomic
from eto.errors import InputError

FILE = "pair_log_probs.jsonl"
"""Its name in the directory of a stage."""
Sums = tuple[float | None, ...]
"""For each turn the log-prob of its tokens in nats; None for a turn without loss, or cut off."""


@dataclass(frozen=True, slots=True)
class SideScores:
    """One side of a pair, turn by turn."""

    tokens: tuple[int, ...]
    """Of each turn that count; 0 where none does."""
    before: Sums
    after: Sums

    @property
    def changes(self) -> Sums:
        """After minus before, in nats."""
        pairs = zip(self.before, self.after, strict=True)
        return tuple(None if old is None or new is None else new - old for old, new in pairs)

    @property
    def change(self) -> float:
        """Of the whole side: the sum over its turns, its log-ratio."""
        return sum(value for value in self.changes if value is not None)


@dataclass(frozen=True, slots=True)
class PairScores:
    """Both sides of a pair under the agent before training and the one after."""

    place: int
    """Of the pair in its file, from 0."""
    task: str
    before: str
    """The agent that training began with."""
    after: str
    chosen: SideScores
    rejected: SideScores


def write_scores(path: Path, scores: Iterable[PairScores]) -> None:
    """Raises `MissingRequirement` on a full disk."""
    lines = "".join(f"{json.dumps(_row(each))}\n" for each in scores)
    with disk_errors(path):
        write_atomic(path, lines)


def read_scores(path: Path) -> dict[int, PairScores]:
    """Place of a pair -> its scores; empty where none are kept. Raises `InputError` for a damaged file."""
    if not path.is_file():
        return {}
    try:
        return {row["place"]: _scores(row) for row in read_rows(path, "place")}
    except (KeyError, TypeError, ValueError) as error:
        hint = "delete it and run `eto score-pairs` again"
        raise InputError(
            f"the record of log-probs is damaged: {error!r}", where=str(path), hint=hint
        ) from None


def _row(scores: PairScores) -> dict[str, Any]:
    sides = {
        name: {"tokens": list(side.tokens), "before": list(side.before), "after": list(side.after)}
        for name, side in (("chosen", scores.chosen), ("rejected", scores.rejected))
    }
    heads = {"place": scores.place, "task": scores.task, "before": scores.before, "after": scores.after}
    return {**heads, **sides}


def _scores(row: Mapping[str, Any]) -> PairScores:
    sides = [
        SideScores(*(tuple(row[name][key]) for key in ("tokens", "before", "after")))
        for name in ("chosen", "rejected")
    ]
    return PairScores(row["place"], row["task"], row["before"], row["after"], *sides)
