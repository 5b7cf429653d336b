"""Attention over trees laid end to end in one row, without padding.

On a CPU each tree is attended for itself: as plain matrix products with folded query
heads, which repeat no keys, or, where it is long, through the fused kernel, which does
not keep the scores. On a GPU the whole row is one FlexAttention call, whose mask says
the same in one comparison (see `eto.training.trees`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from eto.training.trees import Tree

TREE_ATTENTION = "eto_trees"
LONGEST_PLAIN = 1024
"""Length of a tree up to which the CPU keeps the scores of a layer for the backward pass."""


@dataclass
class Layout:
    """Where trees lie in a row; one object serves all layers of a forward pass."""

    sizes: list[int]
    """Tokens of each tree."""
    ends: Tensor
    """`[tokens]` index in the row after the last descendant of each token."""
    depths: Tensor
    """`[tokens]` position of each token in its trajectory."""

    @classmethod
    def of(cls, trees: Sequence[Tree], device: torch.device) -> Layout:
        """The layout of `trees` one after the other."""
        starts = [sum(len(tree) for tree in trees[:number]) for number in range(len(trees))]
        ends = [torch.from_numpy(tree.ends + start) for tree, start in zip(trees, starts, strict=True)]
        depths = [torch.from_numpy(tree.positions) for tree in trees]
        return cls([len(tree) for tree in trees], torch.cat(ends).to(device), torch.cat(depths).to(device))

    def __post_init__(self) -> None:
        self._biases: dict[tuple[int, torch.dtype, int | None], Tensor] = {}

    def bias(self, number: int, dtype: torch.dtype, window: int | None) -> Tensor:
        """`[size, size]` for tree `number`: 0 where the row may attend to the column, else -inf.

        A sliding window is counted in depth, not along the row.
        """
        key = (number, dtype, window)
        if key not in self._biases:
            start = sum(self.sizes[:number])
            at = torch.arange(start, start + self.sizes[number], device=self.ends.device)
            hidden = (at > at[:, None]) | (at[:, None] >= self.ends[at])
            if window:
                hidden |= self.depths[at][:, None] - self.depths[at] >= window
            self._biases[key] = torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, -torch.inf)
        return self._biases[key]

    def visible(self, window: int | None) -> Any:
        """The mask as FlexAttention takes it, for the row as a whole."""

        def mask(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
            seen = (column <= row) & (row < self.ends[column])
            return seen & (self.depths[row] - self.depths[column] < window) if window else seen

        return mask

    @cached_property
    def blocks(self) -> dict[int | None, Any]:
        """Block masks made so far, by window."""
        return {}


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    trees: Layout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query `[1, heads, tokens, size]`, key and value `[1, key-value heads, tokens, size]`
    -> `[1, tokens, heads, size]`."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cuda" and not dropout:
        return _flex(query, key, value, scaling, trees, sliding_window).transpose(1, 2), None
    parts = [
        _plain(q, k, v, trees.bias(number, query.dtype, sliding_window), scaling)
        if trees.sizes[number] <= LONGEST_PLAIN and not dropout
        else _fused(q, k, v, trees.bias(number, query.dtype, sliding_window), scaling, dropout)
        for number, (q, k, v) in enumerate(
            zip(*(side[0].split(trees.sizes, 1) for side in (query, key, value)), strict=True)
        )
    ]
    return torch.cat(parts, 1).transpose(0, 1)[None], None


def _plain(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """`[heads, tokens, size]`, `[shared heads, tokens, size]` twice, `[tokens, tokens]`."""
    heads, tokens, size = query.shape
    shared = key.shape[0]
    folded = (query * scaling).reshape(shared, heads // shared * tokens, size)
    scores = (folded @ key.transpose(-1, -2)).view(heads, tokens, tokens)
    weights = scores.add_(bias).softmax(-1)
    return (weights.view(shared, -1, tokens) @ value).view(heads, tokens, size)


def _fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float, dropout: float) -> Tensor:
    group = query.shape[0] // key.shape[0]
    key, value = (side.repeat_interleave(group, 0)[None] for side in (key, value))
    return F.scaled_dot_product_attention(
        query[None], key, value, attn_mask=bias, dropout_p=dropout, scale=scaling
    )[0]


def _flex(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, trees: Layout, window: int | None
) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    tokens = query.shape[2]
    if window not in trees.blocks:
        trees.blocks[window] = create_block_mask(
            trees.visible(window), None, None, tokens, tokens, device=query.device
        )
    run = flex_attention if query.device.type == "cpu" else _compiled(flex_attention)
    return run(query, key, value, block_mask=trees.blocks[window], scale=scaling, enable_gqa=True)


_COMPILED: dict[Any, Any] = {}


def _compiled(function: Any) -> Any:
    """Compiled once for rows of any length."""
    if function not in _COMPILED:
        _COMPILED[function] = torch.compile(function, dynamic=True)
    return _COMPILED[function]


AttentionInterface.register(TREE_ATTENTION, _attend)
AttentionMaskInterface.register(TREE_ATTENTION, lambda *_args, **_kwargs: None)
