"""The loss of behavioural cloning."""

from __future__ import annotations

from torch import Tensor

from eto.losses.shapes import check_tokens


def sft_loss(token_log_probs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood of the agent's tokens (ETO, section 3.1). `[N]` -> scalar."""
    check_tokens(token_log_probs, weights)
    if weights is None:
        return -token_log_probs.mean()
    return -(token_log_probs * weights).sum() / weights.sum().clamp_min(1e-12)
