"""Prefix trees: trajectories of a task laid out in one row, shared tokens once.

The row holds the trie of the trajectories' token ids in preorder. A token attends to its
ancestors only and its position is its depth, so hidden states are those of the plain
computation. In preorder the descendants of a token are the tokens from it to the end of
its subtree; so one number a token says who sees whom, in one tree as in many laid end to
end. One hidden state may predict several next tokens (at a parting), so predictions are
listed as (source index, target token) and not by shifting the row. Exactness against one
row a trajectory is a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Leaf:
    """One trajectory's predictions inside a tree; arrays of one length, its agent tokens."""

    sources: np.ndarray
    """Row index of the hidden state that predicts the token."""
    targets: np.ndarray
    """The token's id."""
    turns: np.ndarray
    """Number of the turn the token belongs to."""

    def where(self, wanted: np.ndarray) -> Leaf:
        """The predictions at which the bool array `wanted` `[agent tokens]` is true."""
        return Leaf(self.sources[wanted], self.targets[wanted], self.turns[wanted])


@dataclass(frozen=True, slots=True)
class Tree:
    """The trajectories of a task, or one alone."""

    ids: np.ndarray
    """`[tokens]` token ids, shared ones once."""
    positions: np.ndarray
    """`[tokens]` depth of each token."""
    ends: np.ndarray
    """`[tokens]` index after the last descendant of each token."""
    leaves: tuple[Leaf, ...]
    plain_tokens: int
    """Tokens the same trajectories take one row each."""

    def __len__(self) -> int:
        return len(self.ids)

    def visible(self) -> np.ndarray:
        """`[tokens, tokens]` bool: row may attend to column."""
        at = np.arange(len(self))
        return (at <= at[:, None]) & (at[:, None] < self.ends)


def build_tree(sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Tree:
    """A tree of (ids, turns) sequences; `turns` is -1 outside the agent's tokens.

    The i-th leaf is the i-th sequence. The first token of a row is never predicted.
    """
    arrays = [(np.asarray(ids), np.asarray(turns)) for ids, turns in sequences]
    ids: list[int] = []
    positions: list[int] = []
    ends: list[int] = []
    paths: list[list[np.ndarray]] = [[] for _ in arrays]

    def grow(members: list[int], depth: int) -> None:
        end = depth + _shared_length([arrays[m][0][depth:] for m in members])
        start, stop = len(ids), len(ids) + end - depth
        ids.extend(arrays[members[0]][0][depth:end].tolist())
        positions.extend(range(depth, end))
        ends.extend([0] * (end - depth))
        for member in members:
            paths[member].append(np.arange(start, stop))
        branches: dict[int, list[int]] = {}
        for member in members:
            if len(arrays[member][0]) > end:
                branches.setdefault(int(arrays[member][0][end]), []).append(member)
        for branch in branches.values():
            grow(branch, end)
        ends[start:stop] = [len(ids)] * (stop - start)

    roots: dict[int, list[int]] = {}
    for member, (sequence, _) in enumerate(arrays):
        roots.setdefault(int(sequence[0]), []).append(member)
    for branch in roots.values():
        grow(branch, 0)
    leaves = tuple(
        _leaf(np.concatenate(path), sequence, turns)
        for path, (sequence, turns) in zip(paths, arrays, strict=True)
    )
    total = sum(len(sequence) for sequence, _ in arrays)
    return Tree(np.asarray(ids), np.asarray(positions), np.asarray(ends), leaves, total)


def _leaf(path: np.ndarray, ids: np.ndarray, turns: np.ndarray) -> Leaf:
    predicted = np.flatnonzero(turns[1:] >= 0) + 1
    return Leaf(path[predicted - 1], ids[predicted], turns[predicted])


def _shared_length(sequences: list[np.ndarray]) -> int:
    first = sequences[0]
    length = min(len(s) for s in sequences)
    for other in sequences[1:]:
        differs = np.flatnonzero(first[:length] != other[:length])
        if len(differs):
            length = int(differs[0])
    return length
