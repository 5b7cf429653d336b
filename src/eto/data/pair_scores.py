"""What two agents make of the turns of pairs: summed log-probs, kept beside the stage that learnt of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
class SideSums:
    """One side of a pair under one agent, turn by turn."""

    tokens: tuple[int, ...]
    """Of each turn that count; 0 where none does."""
    sums: Sums


Scored = tuple[SideSums, SideSums]
"""Of (chosen, rejected)."""
Key = tuple[str, int, str]
"""An agent, the place of a pair in its file, from 0, and its task."""


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


_UNSCORED = {"place", "task"}
"""All that a line has of a pair that could not be scored."""


def write_scores(path: Path, scores: Iterable[PairScores], unscored: Mapping[int, str] | None = None) -> None:
    """unscored: place -> task of the pairs that were tried and could not be scored. Raises `InputError` where
    it may not write, `MissingRequirement` on a full disk."""
    rows = {each.place: _row(each) for each in scores}
    rows |= {place: {"place": place, "task": task} for place, task in (unscored or {}).items()}
    lines = "".join(f"{json.dumps(rows[place])}\n" for place in sorted(rows))
    with disk_errors(path):
        write_atomic(path, lines)


def read_scores(path: Path) -> dict[int, PairScores]:
    """Place of a pair -> its scores; empty where none are kept. Raises `InputError` for a damaged file."""
    with _damage(path):
        return {row["place"]: _scores(row) for row in _rows(path) if row.keys() != _UNSCORED}


def read_unscored(path: Path) -> dict[int, str]:
    """Place -> task of the pairs that were tried and could not be scored. Raises as `read_scores`."""
    return {row["place"]: row["task"] for row in _rows(path) if row.keys() == _UNSCORED}


def sums_of(scores: Iterable[PairScores]) -> dict[Key, Scored | None]:
    """What each agent made of each pair."""
    known: dict[Key, Scored | None] = {}
    for each in scores:
        for name, side in ((each.before, "before"), (each.after, "after")):
            sides = (SideSums(one.tokens, getattr(one, side)) for one in (each.chosen, each.rejected))
            chosen, rejected = sides
            known[name, each.place, each.task] = chosen, rejected
    return known


def paired(
    pairs: Iterable[tuple[int, str]], agents: tuple[str, str], sums: Mapping[Key, Scored | None]
) -> tuple[list[PairScores], dict[int, str]]:
    """The scores of (place, task) under the agents before and after training, and place -> task of those
    that could not be scored."""
    scores, unscored = [], {}
    for place, task in pairs:
        old, new = (sums[agent, place, task] for agent in agents)
        if old is None or new is None:
            unscored[place] = task
            continue
        chosen, rejected = (SideScores(a.tokens, a.sums, b.sums) for a, b in zip(old, new, strict=True))
        scores.append(PairScores(place, task, *agents, chosen, rejected))
    return scores, unscored


def append_sums(path: Path, sums: Mapping[Key, Scored | None]) -> None:
    """Add lines to a file of sums under way. Raises as `write_scores`."""
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        for (agent, place, task), scored in sums.items():
            sides = scored and [{"tokens": side.tokens, "sums": side.sums} for side in scored]
            row = {"agent": agent, "place": place, "task": task, "sides": sides}
            file.write(f"{json.dumps(row)}\n")


def read_sums(path: Path) -> dict[Key, Scored | None]:
    """What `append_sums` has written; empty where nothing is kept. Raises `InputError` for a damaged file."""
    known: dict[Key, Scored | None] = {}
    with _damage(path):
        for row in read_rows(path, "agent", "place", "task", "sides"):
            sides = row["sides"] and [SideSums(*_columns(side, "tokens", "sums")) for side in row["sides"]]
            known[row["agent"], row["place"], row["task"]] = (sides[0], sides[1]) if sides else None
    return known


def _row(scores: PairScores) -> dict[str, Any]:
    sides = {
        name: {"tokens": list(side.tokens), "before": list(side.before), "after": list(side.after)}
        for name, side in (("chosen", scores.chosen), ("rejected", scores.rejected))
    }
    heads = {"place": scores.place, "task": scores.task, "before": scores.before, "after": scores.after}
    return {**heads, **sides}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return read_rows(path, "place")


def _scores(row: Mapping[str, Any]) -> PairScores:
    chosen, rejected = (
        SideScores(*_columns(row[name], "tokens", "before", "after")) for name in ("chosen", "rejected")
    )
    return PairScores(row["place"], row["task"], row["before"], row["after"], chosen, rejected)


def _columns(side: Mapping[str, Any], *names: str) -> Sequence[tuple[Any, ...]]:
    """A side's values by turn. Raises `ValueError` for what is none."""
    columns = [tuple(side[name]) for name in names]
    if len({len(column) for column in columns}) > 1:
        raise ValueError("columns of different lengths")
    if not all(value is None or type(value) in (int, float) for column in columns for value in column):
        raise ValueError("a value that is no number")
    return columns


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        hint = "delete it and run `eto score-pairs` again"
        raise InputError(
            f"the record of log-probs is damaged: {error!r}", where=str(path), hint=hint
        ) from None
