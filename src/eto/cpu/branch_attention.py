"""Attention along the branches of trees, many in a row, on a CPU.

The row is attended piece by piece. A piece is a run of tokens with one path, and its queries meet the
keys of that path alone, so neither other branches nor most of what lies ahead costs anything. The
backward pass is written out: it adds to the gradients of a shared prefix in place, once a piece. It
computes the weights again, which are as many as heads times tokens times path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eto.models.private_interfaces import softmax_backward
from eto.tokens.prefix_tree import Row

PIECE = 128
"""Most tokens of a piece: what a piece computes above the diagonal is thrown away."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that are attended together."""

    start: int
    stop: int
    path: tuple[tuple[int, int], ...]
    """Ranges of the row from the root to the piece's last token, in order of depth."""

    @property
    def depth(self) -> int:
        """Tokens of the path."""
        return sum(stop - start for start, stop in self.path)

    def along(self, tensor: Tensor) -> Tensor:
        """The path's part of `tensor` `[heads, tokens, size]`; a view where it lies in one range."""
        parts = [tensor[:, start:stop] for start, stop in self.path]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def add_along(self, tensor: Tensor, given: Tensor) -> None:
        """Add `given` `[heads, path, size]` to the path's part of `tensor`."""
        at = 0
        for start, stop in self.path:
            tensor[:, start:stop] += given[:, at : at + stop - start]
            at += stop - start


class Branches:
    """The pieces of a row; one object serves all layers of a forward pass."""

    def __init__(self, row: Row) -> None:
        self.pieces = _pieces(row)
        self._hidden: dict[tuple[int, int, int | None], Tensor] = {}

    def hidden(self, piece: Piece, window: int | None, device: torch.device) -> Tensor:
        """bool `[piece, columns]`: what a row of the piece must not see of the path's last columns.

        The columns are the piece itself or, under a sliding window that ends within it, the whole path.
        """
        rows, depth = piece.stop - piece.start, piece.depth
        columns = rows if not window or depth <= window else depth
        key = rows, columns, window
        if key not in self._hidden:
            row = torch.arange(columns - rows, columns, device=device)[:, None]
            column = torch.arange(columns, device=device)
            hidden = column > row
            self._hidden[key] = hidden | (column <= row - window) if window else hidden
        return self._hidden[key]


def _pieces(row: Row) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    paths: list[tuple[tuple[int, int], ...]] = []
    for segment in row.segments:
        before = paths[segment.parent] if segment.parent >= 0 else ()
        for start in range(segment.start, segment.stop, PIECE):
            stop = min(start + PIECE, segment.stop)
            pieces.append(Piece(start, stop, _extended(before, segment.start, stop)))
        paths.append(_extended(before, segment.start, segment.stop))
    return tuple(pieces)


def _extended(path: tuple[tuple[int, int], ...], start: int, stop: int) -> tuple[tuple[int, int], ...]:
    """`path` and the range after it, as one range where they touch."""
    if path and path[-1][1] == start:
        return (*path[:-1], (path[-1][0], stop))
    return (*path, (start, stop))


class BranchAttention(torch.autograd.Function):
    """softmax(q k' s) v piece by piece; heads that share a key head are folded into one product.

    With P the weights and g the gradient of the result: dv = P'g, dP = g v', and through the
    softmax dS = P (dP - sum(dP P)), dq = s dS k, dk = s dS'q.
    """

    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        branches: Branches,
        scaling: float,
        window: int | None,
    ) -> Tensor:
        """`[heads, tokens, size]`, `[shared heads, tokens, size]`, `[shared heads, tokens, value size]`
        -> `[tokens, heads, value size]`."""
        heads, tokens, _ = query.shape
        out = query.new_empty(tokens, heads, value.shape[-1])
        for piece in branches.pieces:
            weights = _weights(query, key, piece, branches, scaling, window)
            attended = torch.bmm(weights, piece.along(value)).view(heads, -1, value.shape[-1])
            out[piece.start : piece.stop] = attended.transpose(0, 1)
        context.save_for_backward(query, key, value)
        context.rest = branches, scaling, window
        return out

    @staticmethod
    def backward(context: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = context.saved_tensors
        branches, scaling, window = context.rest
        heads, _, size = query.shape
        to_query = torch.empty_like(query)
        to_key, to_value = torch.zeros_like(key), torch.zeros_like(value)
        for piece in branches.pieces:
            here = slice(piece.start, piece.stop)
            weights = _weights(query, key, piece, branches, scaling, window)
            part = given[here].transpose(0, 1).reshape(len(key), -1, value.shape[-1])
            piece.add_along(to_value, torch.bmm(weights.transpose(1, 2), part))
            inner = torch.bmm(part, piece.along(value).transpose(1, 2))
            inner = softmax_backward(inner, weights).mul_(scaling)
            to_query[:, here] = torch.bmm(inner, piece.along(key)).view(heads, -1, size)
            piece.add_along(to_key, torch.bmm(inner.transpose(1, 2), _folded(query, piece, len(key))))
        return to_query, to_key, to_value, None, None, None


def _folded(query: Tensor, piece: Piece, shared: int) -> Tensor:
    """The piece's queries `[shared heads, heads of each x tokens, size]`."""
    return query[:, piece.start : piece.stop].reshape(shared, -1, query.shape[-1])


def _weights(
    query: Tensor, key: Tensor, piece: Piece, branches: Branches, scaling: float, window: int | None
) -> Tensor:
    """`[shared heads, heads of each x tokens, path]`."""
    folded = _folded(query, piece, len(key)) * scaling
    scores = torch.bmm(folded, piece.along(key).transpose(1, 2))
    hidden = branches.hidden(piece, window, query.device)
    last = scores.view(len(query), -1, piece.depth)[..., piece.depth - hidden.shape[1] :]
    last.masked_fill_(hidden, -torch.inf)
    return scores.softmax(-1)


def with_dropout(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    branches: Branches,
    scaling: float,
    window: int | None,
    rate: float,
) -> Tensor:
    """As `BranchAttention`, with dropped weights, through torch's own attention."""
    group = len(query) // len(key)
    parts = []
    for piece in branches.pieces:
        hidden = branches.hidden(piece, window, query.device)
        seen = F.pad(~hidden, (piece.depth - hidden.shape[1], 0), value=True)
        keys, values = (piece.along(side).repeat_interleave(group, 0) for side in (key, value))
        here = query[:, piece.start : piece.stop]
        parts.append(
            F.scaled_dot_product_attention(here, keys, values, attn_mask=seen, dropout_p=rate, scale=scaling)
        )
    return torch.cat(parts, 1).transpose(0, 1)
