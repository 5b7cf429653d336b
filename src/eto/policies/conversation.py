"""Conversations, the beginnings they have in common, and their division among lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from eto.cpu.core_groups import balanced
from eto.talk import Talk
from eto.types import Turn

LEAST_SHARED = 8
"""Tokens of a common beginning from which it is passed once."""
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
        found = self._layers.get(layer)
        if found is None or found[0].shape[1] < total:
            capacity = (total // GROWTH + 1) * GROWTH
            before = found or (key[0, :, :0], value[0, :, :0])
            found = tuple(_grown(old, capacity) for old in before)
            self._layers[layer] = found
        return found[0][:, :total], found[1][:, :total]

    def copy(self, tokens: int) -> Cache:
        """A cache of the first `tokens`, with room for more."""
        taken = Cache()
        capacity = (tokens // GROWTH + 1) * GROWTH
        for layer, sides in self._layers.items():
            taken._layers[layer] = tuple(_grown(side[:, :tokens], capacity) for side in sides)
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
    temperature: float = 0.0
    generator: torch.Generator | None = None
    action: list[int] = field(default_factory=list)
    """Tokens sampled in the current turn."""
    talk: Talk | None = None
    """The conversation as messages; None for one that is ids alone."""
    draft: list[int] = field(default_factory=list)
    """Guesses of the tokens after `ids`, passed with the next step and checked by it."""

    @property
    def pending(self) -> int:
        return len(self.ids) - self.cached

    def observe(self, action: str, observation: str) -> None:
        """Go on after the action just sampled, whose text is `action`, and what it led to.

        Where the chat template lays the conversation out anew, the cache keeps its beginning.
        """
        self.talk.sampled(self.action)
        appended, ids = self.talk.go_on(self.action, Turn(action, observation))
        if appended:
            self.ids += ids
        else:
            self.cached = min(self.cached, common_prefix(self.ids, ids), len(ids) - 1)
            self.ids = ids


def common_prefix(a: list[int], b: list[int]) -> int:
    """Number of leading tokens that are equal."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))


def longest_beginning(
    conversation: Conversation, others: Sequence[Conversation], *, passed: bool = False
) -> tuple[Conversation | None, int]:
    """The one of `others` with which it shares the longest beginning, and that one's number of tokens;
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

    A beginning is passed once a lane. So those that have most of their tokens to pass are sorted
    by their tokens, which brings equal beginnings together, and cut into runs; the others fill up.
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
