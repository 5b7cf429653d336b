"""Attention over the trees of one row: each token sees its path to the root, and nothing else.

On a CPU the row is attended branch by branch (`eto.cpu.branch_attention`). On a GPU the whole row is
one FlexAttention call, whose mask says the same in one comparison (see `eto.tokens.prefix_tree`).
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from eto.cpu.branch_attention import BranchAttention, Branches, with_dropout
from eto.tokens.prefix_tree import Row

TREE_ATTENTION = "eto_trees"
PLAIN_ATTENTION = "eto_trees_plain"
"""The same by torch's own attention with a dense mask: what the written-out passes are compared with."""


class Layout:
    """How a row is attended; one object serves all layers of a forward pass."""

    def __init__(self, row: Row, device: torch.device) -> None:
        self.ends, self.depths = (torch.from_numpy(each).to(device) for each in (row.ends, row.positions))
        self.branches = Branches(row)
        self._dense: dict[int | None, Tensor] = {}

    def visible(self, window: int | None) -> Any:
        """The mask as FlexAttention takes it, for the row as a whole."""

        def mask(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
            seen = (column <= row) & (row < self.ends[column])
            return seen & (self.depths[row] - self.depths[column] < window) if window else seen

        return mask

    def dense(self, window: int | None) -> Tensor:
        """bool `[tokens, tokens]`: what each token of the row sees."""
        if window not in self._dense:
            rows = torch.arange(len(self.ends), device=self.ends.device)
            self._dense[window] = self.visible(window)(rows, rows, rows[:, None], rows[None])
        return self._dense[window]

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
    """query `[1, heads, tokens, size]`, key and value `[1, key-value heads, tokens, size]`, values of a size
    of their own -> `[1, tokens, heads, value size]`."""
    assert trees is not None, "attention over trees is asked for without them"
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cuda" and not dropout:
        return _flex(query, key, value, scaling, trees, sliding_window).transpose(1, 2), None
    if dropout:
        return with_dropout(query[0], key[0], value[0], trees.branches, scaling, sliding_window, dropout)[
            None
        ], None
    return BranchAttention.apply(query[0], key[0], value[0], trees.branches, scaling, sliding_window)[
        None
    ], None


def _attend_plainly(
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
    """As `_attend`; FlexAttention on a GPU, except for dropout."""
    assert trees is not None, "attention over trees is asked for without them"
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cuda" and not dropout:
        return _flex(query, key, value, scaling, trees, sliding_window).transpose(1, 2), None
    group = query.shape[1] // key.shape[1]
    keys, values = (side.repeat_interleave(group, 1) for side in (key, value))
    seen = trees.dense(sliding_window)
    if query.device.type == "meta":
        return _FusedOnMeta.apply(query, keys, values, seen).transpose(1, 2), None
    attended = F.scaled_dot_product_attention(
        query, keys, values, attn_mask=seen, dropout_p=dropout, scale=scaling
    )
    return attended.transpose(1, 2), None


class _FusedOnMeta(torch.autograd.Function):
    """Keeps what torch's fused attention keeps, where memory is counted: without storage torch would run
    the unfused one, which keeps all weights."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        mask = torch.empty_like(seen, dtype=query.dtype)
        context.save_for_backward(query, key, value, out, sums, mask)
        return out

    @staticmethod
    def backward(context: Any, given: Tensor) -> tuple[None, ...]:
        raise NotImplementedError


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


@cache
def _compiled(function: Any) -> Any:
    """Compiled once for rows of any length."""
    return torch.compile(function, dynamic=True)


AttentionInterface.register(TREE_ATTENTION, _attend)
AttentionInterface.register(PLAIN_ATTENTION, _attend_plainly)
AttentionMaskInterface.register(TREE_ATTENTION, lambda *_args, **_kwargs: None)
AttentionMaskInterface.register(PLAIN_ATTENTION, lambda *_args, **_kwargs: None)
