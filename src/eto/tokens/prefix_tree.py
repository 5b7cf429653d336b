"""Prefix trees: trajectories of a task laid out in one row, shared tokens once.

The row holds the trie of the trajectories' token ids in preorder. A token attends to its
ancestors only and its position is its depth, so hidden states are those of the plain
computation. In preorder the descendants of a token are the tokens from it to the end of
its subtree; so one number a token says who sees whom, in one tree as in a row of many. Trees
of a row that begin alike, with one instruction or one kind of task, share that too. One hidden
state may predict several next tokens (at a divergence), so predictions are listed as (source
index, target token) and not by shifting the row. Exactness against one row a trajectory is a
test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

Ids = Sequence[int] | np.ndarray

LEAST_SHARED = 8
"""Tokens that sharing a prefix must save; for fewer, another divergence costs more."""


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
    paths: tuple[np.ndarray, ...]
    """For each sample, the indices of its tokens; a trajectory is one sample or several."""

    @property
    def plain_tokens(self) -> int:
        """Tokens the same trajectories take one row each."""
        return sum(len(path) for path in self.paths)

    def __len__(self) -> int:
        return len(self.ids)

    def visible(self) -> np.ndarray:
        """`[tokens, tokens]` bool: row may attend to column."""
        at = np.arange(len(self))
        return (at <= at[:, None]) & (at[:, None] < self.ends)


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of a row from one divergence to the next."""

    start: int
    stop: int
    parent: int
    """Number of the segment it continues; -1 at a root."""


@dataclass(frozen=True, slots=True)
class Row:
    """Trees laid out for one forward pass, what they share once."""

    ids: np.ndarray
    positions: np.ndarray
    ends: np.ndarray
    """These three as in `Tree`."""
    segments: tuple[Segment, ...]
    places: tuple[np.ndarray, ...]
    """For each tree, `[its tokens]` indices in the row."""


def build_tree(sequences: Sequence[tuple[Ids, Ids]]) -> Tree:
    """A tree of (ids, turns) sequences; `turns` is -1 outside the agent's tokens.

    The i-th leaf is the i-th sequence. The first token of a row is never predicted.
    """
    arrays = [(np.asarray(ids), np.asarray(turns)) for ids, turns in sequences]
    trie = _Trie([ids for ids, _ in arrays])
    leaves = tuple(_leaf(path, ids, turns) for path, (ids, turns) in zip(trie.paths, arrays, strict=True))
    return Tree(*trie.arrays(), leaves, tuple(trie.paths))


def tree_of(trajectories: Sequence[Sequence[tuple[Ids, Ids]]]) -> Tree:
    """A tree of trajectories that may each be several (ids, turns) samples.

    The i-th leaf holds the predictions of all samples of the i-th trajectory, in order.
    """
    tree = build_tree([sample for samples in trajectories for sample in samples])
    leaves = iter(tree.leaves)
    return replace(tree, leaves=tuple(_joined([next(leaves) for _ in each]) for each in trajectories))


def lay_out(trees: Sequence[Tree], least: int = LEAST_SHARED) -> Row:
    """One row of `trees`; those that begin alike share their prefix where that saves `least` tokens."""
    trie = _Trie([tree.ids[path] for tree in trees for path in tree.paths], least)
    paths = iter(trie.paths)
    places = []
    for tree in trees:
        place = np.empty(len(tree), dtype=np.int64)
        for path in tree.paths:
            place[path] = next(paths)
        places.append(place)
    return Row(*trie.arrays(), tuple(trie.segments), tuple(places))


class _Trie:
    """Sequences of ids as a trie in preorder."""

    def __init__(self, sequences: Sequence[np.ndarray], least: int = 1) -> None:
        self._sequences, self._least = sequences, least
        self._ids: list[int] = []
        self._positions: list[int] = []
        self._ends: list[int] = []
        self._parts: list[list[np.ndarray]] = [[] for _ in sequences]
        self.segments: list[Segment] = []
        self._branch(range(len(sequences)), 0, -1)
        self.paths = [np.concatenate(parts) for parts in self._parts]

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.asarray(self._ids), np.asarray(self._positions), np.asarray(self._ends)

    def _branch(self, members: Sequence[int], depth: int, parent: int) -> None:
        """Lay out what comes from `depth` on, of sequences that are alike up to there."""
        branches: dict[int, list[int]] = {}
        for member in members:
            if len(self._sequences[member]) > depth:
                branches.setdefault(int(self._sequences[member][depth]), []).append(member)
        for branch in branches.values():
            shared = _shared_length([self._sequences[member][depth:] for member in branch])
            apart = shared * (len(branch) - 1) < self._least and len(branch) > 1
            for group in [[member] for member in branch] if apart else [branch]:
                self._grow(group, depth, parent)

    def _grow(self, members: list[int], depth: int, parent: int) -> None:
        first = self._sequences[members[0]]
        end = depth + _shared_length([self._sequences[member][depth:] for member in members])
        start, stop = len(self._ids), len(self._ids) + end - depth
        self._ids += first[depth:end].tolist()
        self._positions += range(depth, end)
        self._ends += [0] * (end - depth)
        number = len(self.segments)
        self.segments.append(Segment(start, stop, parent))
        for member in members:
            self._parts[member].append(np.arange(start, stop))
        self._branch(members, end, number)
        self._ends[start:stop] = [len(self._ids)] * (stop - start)


def _leaf(path: np.ndarray, ids: np.ndarray, turns: np.ndarray) -> Leaf:
    predicted = np.flatnonzero(turns[1:] >= 0) + 1
    return Leaf(path[predicted - 1], ids[predicted], turns[predicted])


def _joined(leaves: Sequence[Leaf]) -> Leaf:
    if len(leaves) == 1:
        return leaves[0]
    names = ("sources", "targets", "turns")
    return Leaf(*(np.concatenate([getattr(leaf, name) for leaf in leaves]) for name in names))


def _shared_length(sequences: list[np.ndarray]) -> int:
    first = sequences[0]
    length = min(len(s) for s in sequences)
    for other in sequences[1:]:
        differs = np.flatnonzero(first[:length] != other[:length])
        if len(differs):
            length = int(differs[0])
    return length
