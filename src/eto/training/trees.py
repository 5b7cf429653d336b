"""Prefix trees: trajectories of a task laid out in one row, shared tokens once.

The row holds a segment for each edge of the trie of the trajectories' token ids. A
token attends to its ancestors only and its position is its depth, so hidden states are
those of the plain computation. One hidden state may predict several next tokens (at a
parting), so predictions are listed as (source index, target token) and not by shifting
the row. Exactness against one row a trajectory is a test.
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


@dataclass(frozen=True, slots=True)
class Tree:
    """One row of a batch."""

    ids: np.ndarray
    """`[tokens]` token ids, shared ones once."""
    positions: np.ndarray
    """`[tokens]` depth of each token."""
    segments: tuple[tuple[int, int, int], ...]
    """(start, end, parent segment or -1), parents before children."""
    leaves: tuple[Leaf, ...]
    plain_tokens: int
    """Tokens the same trajectories take one row each."""

    def __len__(self) -> int:
        return len(self.ids)

    def visible(self) -> np.ndarray:
        """`[tokens, tokens]` bool: row may attend to column."""
        seen = np.zeros((len(self), len(self)), dtype=bool)
        for start, end, parent in self.segments:
            if parent >= 0:
                above = self.segments[parent][1] - 1
                seen[start:end, : above + 1] = seen[above, : above + 1]
            seen[start:end, start:end] = np.tri(end - start, dtype=bool)
        return seen


def build_tree(sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Tree:
    """A tree of (ids, turns) sequences; `turns` is -1 outside the agent's tokens.

    The i-th leaf is the i-th sequence. The first token of a row is never predicted.
    """
    arrays = [(np.asarray(ids), np.asarray(turns)) for ids, turns in sequences]
    ids: list[int] = []
    positions: list[int] = []
    segments: list[tuple[int, int, int]] = []
    paths: list[list[np.ndarray]] = [[] for _ in arrays]

    def grow(members: list[int], depth: int, parent: int) -> None:
        end = depth + _shared_length([arrays[m][0][depth:] for m in members])
        if end > depth:
            start = len(ids)
            ids.extend(arrays[members[0]][0][depth:end].tolist())
            positions.extend(range(depth, end))
            segments.append((start, len(ids), parent))
            parent = len(segments) - 1
            for member in members:
                paths[member].append(np.arange(start, len(ids)))
        branches: dict[int, list[int]] = {}
        for member in members:
            if len(arrays[member][0]) > end:
                branches.setdefault(int(arrays[member][0][end]), []).append(member)
        for branch in branches.values():
            grow(branch, end, parent)

    roots: dict[int, list[int]] = {}
    for member, (sequence, _) in enumerate(arrays):
        roots.setdefault(int(sequence[0]), []).append(member)
    for branch in roots.values():
        grow(branch, 0, -1)
    leaves = tuple(
        _leaf(np.concatenate(path), sequence, turns)
        for path, (sequence, turns) in zip(paths, arrays, strict=True)
    )
    total = sum(len(sequence) for sequence, _ in arrays)
    return Tree(np.asarray(ids), np.asarray(positions), tuple(segments), leaves, total)


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
