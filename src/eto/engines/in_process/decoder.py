"""Decoding many conversations at once on a transformers model.

A step takes, from every active conversation, the tokens it has not seen yet: a prompt,
an observation, or the one token just sampled. They are laid end to end as one long row,
so that projections and feed-forward layers see a single matrix without padding, and
each conversation attends to its own key-value cache alone. Prefilling and decoding mix
freely; a conversation joins and leaves at any step; caches live until it is released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from eto.cpu.core_groups import CoreGroups
from eto.cpu.packed_linear import pack_linear_layers
from eto.engines.in_process.attention import ATTENTION, Span
from eto.engines.in_process.conversation import Cache, Conversation, divided, longest_shared_prefix
from eto.models.architecture import check_architecture, fix_positions
from eto.models.logits import logits_of


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of the token after a conversation, and of those after each of its guesses."""

    logits: Tensor
    """`[1 + draft, vocabulary]`, fp32."""
    likeliest: list[int]
    """For each row its likeliest token."""
    log_probs: list[float]
    """The log-probability of that token."""
    totals: list[float]
    """For each row the logarithm of the sum of its exponentiated logits."""


class Decoder:
    """Runs steps of many conversations on one model in evaluation mode.

    Raises `InputError` for a model that is more than plain attention; see `check_architecture`.
    """

    def __init__(self, model: Any, *, fast_paths: bool = True) -> None:
        """`model` is the decoder's own: it is changed for good. `fast_paths`: on a CPU, with a group of
        conversations for each core and with a copy of the weights laid out for few rows."""
        check_architecture(model)
        self.model = model
        model.set_attn_implementation(ATTENTION)
        fix_positions(model)
        model.eval()
        if fast_paths:
            pack_linear_layers(model)
        self._prefix: Conversation | None = None
        self._begun: WeakSet[Conversation] = WeakSet()
        self._groups = CoreGroups(model.device) if fast_paths else CoreGroups(model.device, 1)

    @torch.inference_mode()
    def step(self, batch: list[Conversation]) -> list[Predictions]:
        """Feed every pending token and draft; returns each conversation's predictions."""
        for conversation in batch:
            if not conversation.cached:
                self._copy_prefix(conversation)
                self._begun.add(conversation)
        parts = divided(batch, self._groups.count)
        passed = self._groups.map(self._pass, [[batch[row] for row in part] for part in parts])
        if self._prefix is None:
            self._keep_prefix(batch[0])
        rows = dict(zip(chain(*parts), chain(*passed), strict=True))
        return [rows[row] for row in range(len(batch))]

    @torch.inference_mode()
    def score(self, ids: Sequence[int]) -> list[float]:
        """Log-probs of `ids` from the second on, `[len(ids) - 1]` in nats, with nothing that is cached."""
        conversation = Conversation(list(ids[:1]), draft=list(ids[1:-1]))
        [predictions] = self._pass([conversation])
        scores = predictions.logits.log_softmax(-1)
        chosen = torch.tensor(list(ids[1:]), device=scores.device)
        return scores.gather(1, chosen[:, None])[:, 0].tolist()

    def forget_prefix(self) -> None:
        """The next conversation becomes the one whose beginning later ones take over."""
        self._prefix = None

    def close(self) -> None:
        """End the threads."""
        self._groups.close()

    @torch.inference_mode()
    def _pass(self, batch: list[Conversation]) -> list[Predictions]:
        spans: list[Span] = []
        start = 0
        for index, conversation in enumerate(batch):
            if conversation.cache is None:
                conversation.cache = Cache()
            own = conversation.cached
            source, shared = longest_shared_prefix(conversation, batch[:index])
            if source is not None:
                conversation.cached = shared
            spans.append(Span(start, conversation, source, own))
            start += spans[-1].new
        device = self.model.device
        ids = [token for c in batch for token in (*c.ids[c.cached :], *c.draft)]
        positions = [at for span in spans for at in range(span.past, span.past + span.new)]
        hidden = self.model.get_decoder()(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            conversations=spans,
        ).last_hidden_state
        counts = [1 + len(conversation.draft) for conversation in batch]
        ends = [span.start + span.new for span in spans]
        wanted = [at for end, count in zip(ends, counts, strict=True) for at in range(end - count, end)]
        for conversation in batch:
            conversation.cached = len(conversation.ids)
        return _predictions(logits_of(self.model, hidden[0, torch.tensor(wanted, device=device)]), counts)

    def _copy_prefix(self, conversation: Conversation) -> None:
        """Take over the cache of the longest prefix that another conversation has passed: one
        that is still held, or the first of all, for the instruction they have in common."""
        others = [other for other in (self._prefix, *self._begun) if other is not None]
        best, shared = longest_shared_prefix(
            conversation, [o for o in others if o.cache is not None], passed=True
        )
        if best is not None and best.cache is not None:
            conversation.cache = best.cache.copy(shared)
            conversation.cached = shared

    def _keep_prefix(self, conversation: Conversation) -> None:
        assert conversation.cache is not None, "it has passed"
        self._prefix = Conversation(
            ids=list(conversation.ids),
            cached=conversation.cached,
            cache=conversation.cache.copy(conversation.cached),
        )


def _predictions(logits: Tensor, counts: Sequence[int]) -> list[Predictions]:
    """Of a pass, `counts` rows each conversation."""
    logits = logits.float()
    likeliest, totals = logits.argmax(-1), logits.logsumexp(-1)
    log_probs = logits.gather(1, likeliest[:, None])[:, 0] - totals
    lists = likeliest.tolist(), log_probs.tolist(), totals.tolist()
    predictions, start = [], 0
    for rows in logits.split(counts):
        here = slice(start, start + len(rows))
        predictions.append(Predictions(rows, *(values[here] for values in lists)))
        start += len(rows)
    return predictions
