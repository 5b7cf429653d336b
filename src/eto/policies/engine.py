"""Decoding many conversations at once on a transformers model.

A step takes, from every active conversation, the tokens it has not seen yet: a prompt,
an observation, or the one token just sampled. They are laid end to end as one long row,
so that projections and feed-forward layers see a single matrix without padding, and
each conversation attends to its own key-value cache alone. Prefilling and decoding mix
freely; a conversation joins and leaves at any step; caches live until it is released.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import chain
from typing import Any
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from eto.cpu.core_groups import CoreGroups
from eto.policies.architecture import check_architecture, fix_positions
from eto.policies.conversation import Cache, Conversation, divided, longest_beginning
from eto.policies.packing import pack_linear_layers

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


class Engine:
    """Runs steps of many conversations on one model in evaluation mode.

    Raises `InputError` for a model that is more than plain attention; see `check_architecture`.
    """

    def __init__(self, model: Any, *, packed: bool = True) -> None:
        """`model` is the engine's own: it is changed for good. `packed`: with a copy of the weights laid
        out for few rows (`eto.policies.packing`)."""
        check_architecture(model)
        self.model = model
        model.set_attn_implementation(ATTENTION)
        fix_positions(model)
        model.eval()
        if packed:
            pack_linear_layers(model)
        self._prefix: Conversation | None = None
        self._begun: WeakSet[Conversation] = WeakSet()
        self._lanes = CoreGroups(model.device)

    @torch.inference_mode()
    def step(self, batch: list[Conversation]) -> list[Tensor]:
        """Feed every pending token and draft; returns for each conversation `[1 + its draft, vocab]`,
        the logits of the next token and of those after each guess, fp32."""
        for conversation in batch:
            if not conversation.cached:
                self._copy_prefix(conversation)
                self._begun.add(conversation)
        parts = divided(batch, self._lanes.count)
        found = self._lanes.map(self._pass, [[batch[row] for row in part] for part in parts])
        if self._prefix is None:
            self._keep_prefix(batch[0])
        rows = dict(zip(chain(*parts), chain(*found), strict=True))
        return [rows[row] for row in range(len(batch))]

    def close(self) -> None:
        """End the lanes' threads."""
        self._lanes.close()

    @torch.inference_mode()
    def _pass(self, batch: list[Conversation]) -> list[Tensor]:
        spans: list[Span] = []
        start = 0
        for number, conversation in enumerate(batch):
            if conversation.cache is None:
                conversation.cache = Cache()
            own = conversation.cached
            source, shared = longest_beginning(conversation, batch[:number])
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
        logits = project(self.model, hidden[0, torch.tensor(wanted, device=device)]).float()
        return list(logits.split(counts))

    def _copy_prefix(self, conversation: Conversation) -> None:
        """Take over the cache of the longest beginning that another conversation has passed: one
        that is still held, or the first of all, for the instruction they have in common."""
        others = [other for other in (self._prefix, *self._begun) if other is not None]
        best, shared = longest_beginning(
            conversation, [o for o in others if o.cache is not None], passed=True
        )
        if best is not None:
            conversation.cache = best.cache.copy(shared)
            conversation.cached = shared

    def _keep_prefix(self, conversation: Conversation) -> None:
        self._prefix = Conversation(
            ids=list(conversation.ids),
            cached=conversation.cached,
            cache=conversation.cache.copy(conversation.cached),
        )


def extend(conversation: Conversation, logits: Tensor, stops: Container[int], most: int) -> bool:
    """Append the next token and, as long as the guesses hold, those after it; True at an action's end.

    logits: `[1 + draft, vocab]` of `Engine.step`. Tokens are the likeliest, or drawn at the
    conversation's temperature with its own generator, one draw a token, guessed or not. An
    action ends with a token of `stops` or after `most` tokens.
    """
    draft, conversation.draft = conversation.draft, []
    greedy = conversation.temperature == 0
    likeliest = logits.argmax(-1).tolist() if greedy else []
    for row in range(len(logits)):
        token = likeliest[row] if greedy else _draw(logits[row], conversation)
        conversation.ids.append(token)
        conversation.action.append(token)
        right = row < len(draft) and draft[row] == token
        conversation.cached += right
        if token in stops or len(conversation.action) == most:
            return True
        if not right:
            break
    return False


def _draw(logits: Tensor, conversation: Conversation) -> int:
    probabilities = (logits.cpu() / conversation.temperature).softmax(-1)
    return int(torch.multinomial(probabilities, 1, generator=conversation.generator))


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
        keys, values = span.conversation.cache.room(layer, key, value, total)
        if span.source is not None:
            others = span.source.cache.room(layer, key, value, span.past)
            for side, other in zip((keys, values), others, strict=True):
                side[:, span.own : span.past] = other[:, span.own :]
        keys[:, span.past :] = key[0, :, here]
        values[:, span.past :] = value[0, :, here]
        folded = query[0, :, here].reshape(shared, -1, size)
        attended = _against(folded, keys, values, span.bias(query, sliding_window), scaling)
        out[here] = attended.view(heads, span.new, -1).transpose(0, 1)
    return out[None], None


def _against(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float) -> Tensor:
    """query `[shared heads, group * new, size]`, key and value `[shared heads, total, their size]`,
    bias `[new, total]`. On a CPU, plain products take less time than the fused kernel, but for a
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
