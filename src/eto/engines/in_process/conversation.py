"""Conversations as tokens with their caches, and the prefixes they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from eto.cpu.core_groups import balanced

LEAST_SHARED = 8
"""Tokens of a common prefix from which it is passed once."""
GROWTH = 256
"""Tokens by which a full cache grows."""


class Cache:
    """Keys and values of one conversation, layer by layer.

    Each layer's shape is that of the first keys and values it gets, so layers may differ in heads
    and sizes, and keys from values.
    """

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def room(self, layer: int, key: Tensor, value: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """The layer's keys and values `[heads, total, size]`, to be read and written; the shapes and types
        are those of `key` and `value` `[1, heads, new, size]`."""
        keys, values = self._layers.get(layer) or (key[0, :, :0], value[0, :, :0])
        if keys.shape[1] < total:
            capacity = (total // GROWTH + 1) * GROWTH
            keys, values = self._layers[layer] = _grown(keys, capacity), _grown(values, capacity)
        return keys[:, :total], values[:, :total]

    def copy(self, tokens: int) -> Cache:
        """A cache of the first `tokens`, with room for more."""
        taken = Cache()
        capacity = (tokens // GROWTH + 1) * GROWTH
        for layer, (keys, values) in self._layers.items():
            taken._layers[layer] = _grown(keys[:, :tokens], capacity), _grown(values[:, :tokens], capacity)
        return taken


def _grown(side: Tensor, capacity: int) -> Tensor:
    grown = side.new_empty((side.shape[0], capacity, side.shape[2]))
    grown[:, : side.shape[1]] = side
    return grown


@dataclass(eq=False, slots=True, weakref_slot=True)
class Conversation:
    """One conversation and its cache."""

    ids: list[int]
    """All tokens so far; the last `len(ids) - cached` have not passed the model yet."""
    cached: int = 0
    cache: Cache | None = None
    """None before the first step, and once released."""
    draft: list[int] = field(default_factory=list)
    """Guesses of the tokens after `ids`, passed with the next step and checked by it."""

    @property
    def pending(self) -> int:
        return len(self.ids) - self.cached

    def replace(self, ids: Sequence[int]) -> None:
        """Go on with `ids`, of which the cache keeps the prefix it has; the last one always passes again,
        as its logits are asked for."""
        known = len(self.ids)
        shared = known if list(ids[:known]) == self.ids else common_prefix(self.ids, ids)
        self.cached = min(self.cached, shared, len(ids) - 1)
        self.ids = list(ids)
        self.draft = []

    def forget(self) -> None:
        """Free the cache."""
        self.cache, self.cached, self.draft = None, 0, []


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading tokens that are equal."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))


def longest_shared_prefix(
    conversation: Conversation, others: Sequence[Conversation], *, passed: bool = False
) -> tuple[Conversation | None, int]:
    """The one of `others` with which it shares the longest prefix, and that one's number of tokens;
    None and 0 where nothing worth it is shared that its own cache lacks.

    `passed`: count only what the caches of the others hold. The last token of a conversation is
    never shared, as its logits are asked for.
    """
    best, least = None, max(LEAST_SHARED - 1, conversation.cached)
    wanted = conversation.ids[:-1]
    if len(wanted) <= least:
        return None, 0
    for other in others:
        if not passed or other.cached > least:
            shared = common_prefix(other.ids, wanted)
            shared = min(shared, other.cached) if passed else shared
            if shared > least:
                best, least = other, shared
    return (best, least) if best is not None else (None, 0)


def divided(batch: Sequence[Conversation], count: int) -> list[list[int]]:
    """Rows of `batch` for each of at most `count` lanes, of about equal numbers of new tokens.

    A prefix is passed once a lane. So those that have most of their tokens to pass are sorted
    by their tokens, which brings equal prefixes together, and cut into runs; the others fill up.
    """
    count = min(count, len(batch))
    fresh = sorted(
        (row for row, c in enumerate(batch) if 2 * c.cached < len(c.ids)), key=lambda r: batch[r].ids
    )
    shared = [0, *(common_prefix(batch[a].ids, batch[b].ids) for a, b in pairwise(fresh))]
    costs = [len(batch[row].ids) - max(batch[row].cached, at) for row, at in zip(fresh, shared, strict=False)]
    runs = balanced(costs, count)
    parts = [[fresh[at] for at in run] for run in runs] + [[] for _ in range(count - len(runs))]
    filled = [sum(costs[at] for at in run) for run in runs] + [0] * (count - len(runs))
    sizes = {row: c.pending + len(c.draft) for row, c in enumerate(batch) if row not in set(fresh)}
    for row in sorted(sizes, key=lambda row: -sizes[row]):
        lane = filled.index(min(filled))
        parts[lane].append(row)
        filled[lane] += sizes[row]
    return [part for part in parts if part]
