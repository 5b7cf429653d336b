"""Shapes of log-probs, checked: broadcasting would hide a mistake."""

from __future__ import annotations

from torch import Tensor


def check_tokens(token_log_probs: Tensor, weights: Tensor | None) -> None:
    """Raises `ValueError` unless both are `[N]`."""
    if token_log_probs.ndim != 1:
        raise ValueError(f"one value a token is needed, not the shape {tuple(token_log_probs.shape)}")
    if weights is not None:
        check_shapes(token_log_probs, weights)


def check_shapes(*tensors: Tensor) -> None:
    """Raises `ValueError` unless all have one shape."""
    if len({tensor.shape for tensor in tensors}) > 1:
        raise ValueError(f"shapes differ: {', '.join(str(tuple(tensor.shape)) for tensor in tensors)}")
