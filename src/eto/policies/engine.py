"""Decoding many conversations at once on a transformers model.

A step takes, from every active conversation, the tokens it has not seen yet: a prompt,
an observation, or the one token just sampled. They are laid end to end as one long row,
so that projections and feed-forward layers see a single matrix without padding, and
each conversation attends to its own key-value cache alone. Prefilling and decoding mix
freely; a conversation joins and leaves at any step; caches live until it is released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from eto.errors import InputError

ATTENTION = "eto_conversations"
MIN_SHARED_PREFIX = 8
LARGEST_PLAIN = 1024 * 1024
"""New tokens x all tokens of a conversation up to which its scores are kept at once."""
GROWTH = 256
"""Tokens by which a full cache grows."""


@dataclass(eq=False, slots=True)
class Conversation:
    """One append-only conversation and its cache."""

    ids: list[int]
    """All tokens so far; the last `len(ids) - cached` have not passed the model yet."""
    cached: int = 0
    cache: Tensor | None = None
    """`[layers, 2, key-value heads, capacity, head size]`."""
    temperature: float = 0.0
    generator: torch.Generator | None = None
    action: list[int] = field(default_factory=list)
    """Tokens sampled in the current turn."""

    @property
    def pending(self) -> int:
        return len(self.ids) - self.cached


class Span:
    """The new tokens of one conversation within a step; one object serves all layers."""

    def __init__(self, start: int, conversation: Conversation) -> None:
        self.start, self.conversation = start, conversation
        self.new, self.past = conversation.pending, conversation.cached
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


class Engine:
    """Runs steps of many conversations on one model in evaluation mode.

    Raises `InputError` for a model that is more than plain attention; see `check_architecture`.
    """

    def __init__(self, model: Any) -> None:
        check_architecture(model)
        self.model = model
        model.set_attn_implementation(ATTENTION)
        model.eval()
        config = model.config.get_text_config()
        self.layers = config.num_hidden_layers
        self.heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._prefix: Conversation | None = None

    @torch.inference_mode()
    def step(self, batch: list[Conversation]) -> Tensor:
        """Feed every pending token; returns the next token's logits `[len(batch), vocab]`, fp32."""
        self._share_prefix(batch)
        spans, start = [], 0
        for conversation in batch:
            self._reserve(conversation)
            spans.append(Span(start, conversation))
            start += conversation.pending
        device = self.model.device
        ids = torch.tensor([[i for c in batch for i in c.ids[c.cached :]]], device=device)
        positions = torch.tensor([[p for c in batch for p in range(c.cached, len(c.ids))]], device=device)
        hidden = self.model.get_decoder()(
            input_ids=ids, position_ids=positions, use_cache=False, conversations=spans
        ).last_hidden_state
        last = torch.tensor([span.start + span.new - 1 for span in spans], device=device)
        for conversation in batch:
            conversation.cached = len(conversation.ids)
        if self._prefix is None:
            self._keep_prefix(batch[0])
        return project(self.model, hidden[0, last]).float()

    def _reserve(self, conversation: Conversation) -> None:
        need = len(conversation.ids)
        cache = conversation.cache
        if cache is not None and cache.shape[3] >= need:
            return
        capacity = (need // GROWTH + 1) * GROWTH
        shape = (self.layers, 2, self.heads, capacity, self.head_size)
        grown = torch.empty(shape, dtype=self.model.dtype, device=self.model.device)
        if cache is not None:
            grown[:, :, :, : conversation.cached] = cache[:, :, :, : conversation.cached]
        conversation.cache = grown

    def _share_prefix(self, batch: list[Conversation]) -> None:
        """Copy the cache of the instruction that new conversations have in common."""
        new = [c for c in batch if not c.cached]
        if self._prefix is None and len(new) > 1:
            self.step([new[0]])
            # Its last token must pass again to give logits in the step proper.
            new[0].cached -= 1
            new = new[1:]
        if self._prefix is None or self._prefix.cache is None:
            return
        for conversation in new:
            shared = common_prefix(self._prefix.ids, conversation.ids[:-1])
            if shared >= MIN_SHARED_PREFIX:
                self._reserve(conversation)
                conversation.cache[:, :, :, :shared] = self._prefix.cache[:, :, :, :shared]
                conversation.cached = shared

    def _keep_prefix(self, conversation: Conversation) -> None:
        self._prefix = Conversation(
            ids=list(conversation.ids), cached=conversation.cached, cache=conversation.cache.clone()
        )


def check_architecture(model: Any) -> None:
    """Raises `InputError` unless attention alone, and no more than ours computes, links tokens.

    Conversations share a row here and branches do in training. A recurrent layer would
    carry one into the other, and soft-capped scores or attention sinks would be left out.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if layers or model._is_stateful:
        what = f"layers other than attention ({', '.join(sorted(layers)) or 'recurrent'})"
    elif not model._supports_attention_backend:
        what = "attention that cannot be exchanged"
    elif getattr(config, "attn_logit_softcapping", None):
        what = "soft-capped attention"
    elif any(name.endswith("sinks") for name, _ in model.named_parameters()):
        what = "attention sinks"
    else:
        return
    raise InputError(
        f"{type(model).__name__} has {what}, which is not supported",
        where="model.path",
        mend="use a model of the Llama, Mistral, Qwen2, Qwen3, Gemma 3 or a similar family",
    )


def common_prefix(a: list[int], b: list[int]) -> int:
    """Number of leading tokens that are equal."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))


def sample(logits: Tensor, batch: list[Conversation]) -> list[int]:
    """Next token of each conversation: the likeliest, or drawn at its temperature with its own generator."""
    best = logits.argmax(-1).tolist()
    for row, conversation in enumerate(batch):
        if conversation.temperature > 0:
            probabilities = (logits[row].cpu() / conversation.temperature).softmax(-1)
            best[row] = int(torch.multinomial(probabilities, 1, generator=conversation.generator))
    return best


def project(model: Any, hidden: Tensor) -> Tensor:
    """Logits of hidden states, with the scalings some architectures put around the head."""
    config = model.config.get_text_config()
    logits = model.get_output_embeddings()(hidden)
    if (scaling := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / scaling
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


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

    query `[1, heads, tokens, size]`, key and value `[1, key-value heads, tokens, size]`
    -> `[1, tokens, heads, size]`. Query heads that share a key head are folded into the
    query length, so keys are never repeated.
    """
    heads, tokens, size = query.shape[1:]
    shared = key.shape[1]
    scaling = size**-0.5 if scaling is None else scaling
    out = query.new_empty((tokens, heads, size))
    for span in conversations:
        here, total = slice(span.start, span.start + span.new), span.past + span.new
        cache = span.conversation.cache[module.layer_idx]
        cache[0, :, span.past : total] = key[0, :, here]
        cache[1, :, span.past : total] = value[0, :, here]
        folded = query[0, :, here].reshape(shared, -1, size)
        attended = _against(
            folded, cache[0, :, :total], cache[1, :, :total], span.bias(query, sliding_window), scaling
        )
        out[here] = attended.view(heads, span.new, size).transpose(0, 1)
    return out[None], None


def _against(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float) -> Tensor:
    """query `[shared heads, group * new, size]`, key and value `[shared heads, total, size]`,
    bias `[new, total]`. On a CPU, plain products take about half of the fused kernel's time for
    an observation's tokens in bfloat16, and twice its time for a single token (`LOG.md`)."""
    shared, rows = query.shape[:2]
    if bias is None or query.device.type != "cpu" or bias.numel() > LARGEST_PLAIN:
        mask = None if bias is None else bias.repeat(rows // bias.shape[0], 1)
        return F.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=mask, scale=scaling
        )[0]
    scores = (query * scaling) @ key.transpose(-1, -2)
    scores.view(shared, -1, *bias.shape).add_(bias)
    return scores.softmax(-1) @ value


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, lambda *_args, **_kwargs: None)
