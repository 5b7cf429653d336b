"""Attention over trees: a given bias instead of a causal mask.

On a CPU, rows of some hundred tokens go through plain matrix products with folded query
heads, which repeat no keys; long rows and other devices use the fused kernel, which does
not keep the scores.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

TREE_ATTENTION = "eto_trees"
LONGEST_PLAIN = 1024
"""Row length up to which the CPU keeps the scores of a layer for the backward pass."""


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    depths: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query `[rows, heads, tokens, size]`, key and value `[rows, key-value heads, tokens, size]`,
    attention_mask an additive bias `[rows, 1, tokens, tokens]` -> `[rows, tokens, heads, size]`.

    A layer's sliding window is counted in `depths` `[rows, tokens]`, not along the row.
    """
    rows, heads, tokens, size = query.shape
    shared = key.shape[1]
    group = heads // shared
    bias = attention_mask.to(query.dtype)
    if sliding_window:
        back = depths[:, None, :, None] - depths[:, None, None, :]
        bias = bias.masked_fill(back >= sliding_window, -torch.inf)
    scaling = size**-0.5 if scaling is None else scaling
    if query.device.type == "cpu" and tokens <= LONGEST_PLAIN and not dropout:
        folded = (query * scaling).reshape(rows, shared, group * tokens, size)
        scores = (folded @ key.transpose(-1, -2)).view(rows, shared, group, tokens, tokens)
        weights = (scores + bias[:, :, None]).softmax(-1)
        out = (weights.view(rows, shared, group * tokens, tokens) @ value).view(rows, heads, tokens, size)
    else:
        repeated = (side.repeat_interleave(group, 1) for side in (key, value))
        out = F.scaled_dot_product_attention(
            query, *repeated, attn_mask=bias, dropout_p=dropout, scale=scaling
        )
    return out.transpose(1, 2), None


AttentionInterface.register(TREE_ATTENTION, _attend)
AttentionMaskInterface.register(TREE_ATTENTION, lambda *_args, **_kwargs: None)
