"""Attention of many conversations in one row: each one's new tokens against its own cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from eto.engines.in_process.conversation import Cache, Conversation

ATTENTION = "eto_conversations"
LARGEST_PLAIN = 1024 * 1024
"""New tokens x all tokens of a conversation up to which its scores are kept at once."""


class Span:
    """The new tokens of one conversation within a step; one object serves all layers."""

    def __init__(self, start: int, conversation: Conversation, source: Conversation | None, own: int) -> None:
        """`source`: another one of the step, that passes the tokens from `own` to `conversation.cached` for
        both."""
        self.start, self.conversation, self.source, self.own = start, conversation, source, own
        self.new = conversation.pending + len(conversation.draft)
        self.past = conversation.cached
        self._biases: dict[tuple[torch.dtype, int | None], Tensor | None] = {}

    def bias(self, like: Tensor, window: int | None) -> Tensor | None:
        """`[new, past + new]`: 0 where the row may attend to the column, else -inf; None for all 0."""
        key = like.dtype, window
        if key not in self._biases:
            total = self.past + self.new
            if self.new == 1 and not (window and total > window):
                self._biases[key] = None
            else:
                rows = torch.arange(self.past, total, device=like.device)[:, None]
                columns = torch.arange(total, device=like.device)
                hidden = columns > rows
                if window:
                    hidden |= columns <= rows - window
                self._biases[key] = torch.zeros_like(hidden, dtype=like.dtype).masked_fill_(
                    hidden, -torch.inf
                )
        return self._biases[key]


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    conversations: Sequence[Span] = (),
    **_: Any,
) -> tuple[Tensor, None]:
    """Each conversation's new tokens against its own cache.

    query `[1, heads, tokens, size]`, key and value `[1, key-value heads, tokens, size]`, values of a size
    of their own -> `[1, tokens, heads, value size]`. Query heads that share a key head are folded into the
    query length, so keys are never repeated.
    """
    heads, tokens, size = query.shape[1:]
    shared = key.shape[1]
    scaling = size**-0.5 if scaling is None else scaling
    out = query.new_empty((tokens, heads, value.shape[-1]))
    layer = module.layer_idx
    for span in conversations:
        here, total = slice(span.start, span.start + span.new), span.past + span.new
        keys, values = _cache(span.conversation).room(layer, key, value, total)
        if span.source is not None:
            others = _cache(span.source).room(layer, key, value, span.past)
            for side, other in zip((keys, values), others, strict=True):
                side[:, span.own : span.past] = other[:, span.own :]
        keys[:, span.past :] = key[0, :, here]
        values[:, span.past :] = value[0, :, here]
        folded = query[0, :, here].reshape(shared, -1, size)
        attended = _against(folded, keys, values, span.bias(query, sliding_window), scaling)
        out[here] = attended.view(heads, span.new, -1).transpose(0, 1)
    return out[None], None


def _cache(conversation: Conversation) -> Cache:
    assert conversation.cache is not None, "made before the pass"
    return conversation.cache


def _against(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float) -> Tensor:
    """query `[shared heads, group * new, size]`, key and value `[shared heads, total, their size]`,
    bias `[new, total]`. On a CPU, plain products take less time than the fused kernel, except for a
    single token in bfloat16 (`LOG.md`)."""
    shared, rows = query.shape[:2]
    many = bias is not None and bias.numel() > LARGEST_PLAIN
    if query.device.type != "cpu" or many or (bias is None and query.dtype != torch.float32):
        mask = None if bias is None else bias.repeat(rows // bias.shape[0], 1)
        return F.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=mask, scale=scaling
        )[0]
    scores = torch.bmm(query * scaling, key.transpose(-1, -2))
    if bias is not None:
        scores.view(shared, -1, *bias.shape).add_(bias)
    return torch.bmm(scores.softmax(-1), value)


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, lambda *_args, **_kwargs: None)
