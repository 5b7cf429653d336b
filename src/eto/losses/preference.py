"""Losses of preference pairs on whole trajectories, each with its equation.

Shapes: `[B]` is one value a pair; log-probs are natural logarithms of the probability of a whole
trajectory's agent tokens (a weighted sum over tokens), so their unit is nats.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from eto.losses.shapes import check_shapes, check_tokens


def sequence_log_prob(token_log_probs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over agent tokens: log pi(e|u) = sum_j log pi(a_j|u, a_1, o_1, ..) (ETO, section 3).

    token_log_probs `[N]`, weights `[N]` or None for the paper's plain sum -> scalar.
    """
    check_tokens(token_log_probs, weights)
    return token_log_probs.sum() if weights is None else (token_log_probs * weights).sum()


def log_ratio_difference(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor
) -> Tensor:
    """(log pi/pi_ref)(chosen) - (log pi/pi_ref)(rejected), each `[B]` -> `[B]`, in nats. Times
    beta it is the margin."""
    check_shapes(chosen, rejected, ref_chosen, ref_rejected)
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def dpo_loss(difference: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(beta * difference) on whole trajectories (ETO, eq. 11; DPO, arXiv 2305.18290).

    With label smoothing e (conservative DPO): (1 - e) of it plus e of the flipped
    label's. difference `[B]` -> `[B]`.
    """
    margin = beta * difference
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def ipo_loss(difference: Tensor, beta: float) -> Tensor:
    """(difference - 1/(2 beta))^2 (IPO, arXiv 2310.12036, eq. 17). difference `[B]` -> `[B]`."""
    return (difference - 1 / (2 * beta)) ** 2
