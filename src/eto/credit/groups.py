"""Groups of turns, between single steps and whole trajectories (HPL, arXiv 2510.03253).

An expert's trajectory is cut into groups of K turns (the paper's Fixed-K). At the beginning of each the agent
writes a group of its own; both are valued by how well a frozen agent goes on after them. Training begins with
short groups and large differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eto.credit.contrast import one_begins_other
from eto.credit.monte_carlo import Branch, Valued, pair_of
from eto.types import Pair

LENGTHS = (3, 6)
"""Most turns of a short group and of a middling one (authors' code)."""
GAPS = (0.7, 0.4)
"""Least difference of values that is large, and that is middling (authors' code)."""
PHASES = 3
"""Of the curriculum."""


@dataclass(frozen=True, slots=True)
class GroupPair:
    """A pair of groups with what the curriculum orders it by."""

    pair: Pair
    length: int
    """Turns of the rejected group (authors' code)."""
    gap: float
    """Value of the chosen group minus that of the rejected one."""


def distinct_groups(found: Iterable[Branch], turns: int) -> list[Branch]:
    """The branches whose first `turns` actions are not the expert's, each group at a place once."""
    distinct, seen = [], set()
    for branch in found:
        theirs, own = (
            tuple(turn.said for turn in side.turns[branch.at : branch.at + turns])
            for side in (branch.expert, branch.episode)
        )
        key = branch.expert.task.id, branch.at, own
        if own != theirs and key not in seen:
            seen.add(key)
            distinct.append(branch)
    return distinct


def group_pairs(
    valued: Iterable[Valued], turns: int, threshold: float, least_value: float = 0.0
) -> list[GroupPair]:
    """Pairs of the expert's group, chosen, and the agent's (HPL, section 3 by the authors' code).

    One needs a difference of values above `threshold`, an expert's group worth at least `least_value`, and an
    episode of the agent's that did not end better than the expert's.
    """
    pairs = []
    for each in valued:
        wins = each.gap > threshold and each.expert_value >= least_value and each.branch.gap() >= 0
        if wins:
            pair = pair_of(each.branch, True, "group", turns)
            if not one_begins_other(pair.chosen, pair.rejected):
                length = len(pair.rejected.turns) - each.branch.at
                pairs.append(GroupPair(pair, length, each.gap))
    return pairs


def curriculum(pairs: Sequence[GroupPair]) -> list[list[Pair]]:
    """The pairs of each phase: B(1,1), then with B(1,2) and B(2,1), then all (HPL, dual-layer curriculum).

    B(l, d): length bucket l of short, middling, long, and gap bucket d of large, middling, small.
    """
    buckets = [(_length_bucket(each.length), _gap_bucket(each.gap)) for each in pairs]
    wanted: list[set[tuple[int, int]]] = [{(1, 1)}, {(1, 1), (1, 2), (2, 1)}, set(buckets)]
    return [
        [each.pair for each, bucket in zip(pairs, buckets, strict=True) if bucket in taken]
        for taken in wanted
    ]


def _length_bucket(length: int) -> int:
    return 1 + sum(length > bound for bound in LENGTHS)


def _gap_bucket(gap: float) -> int:
    return 1 + sum(gap < bound for bound in GAPS)
