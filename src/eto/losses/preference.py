"""Losses of preference pairs on whole trajectories, each with its equation.

Shapes: `[B]` is one value a pair; log-probs are natural logarithms of the probability of a whole
trajectory's agent tokens (a weighted sum over tokens), so their unit is nats.
"""

from __future__ import annotations

import torch
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


def robust_dpo_loss(difference: Tensor, beta: float, flipped: float) -> Tensor:
    """DPO's loss without the bias of a share `flipped` of pairs whose order is wrong (robust DPO, arXiv
    2403.00409, eq. 12): ((1 - e) L(d) - e L(-d)) / (1 - 2e), with L of `dpo_loss`. difference `[B]` -> `[B]`.
    """
    right, wrong = dpo_loss(difference, beta), dpo_loss(-difference, beta)
    return ((1 - flipped) * right - flipped * wrong) / (1 - 2 * flipped)


def dpop_loss(chosen: Tensor, rejected: Tensor, beta: float, penalty: float) -> Tensor:
    """-log sigmoid(beta (c - r - penalty max(0, -c))) with the sides' log-ratios c and r in nats: a chosen
    side that becomes less likely costs (DPO-Positive, arXiv 2402.13228, eq. 3). Each `[B]` -> `[B]`."""
    check_shapes(chosen, rejected)
    return -F.logsigmoid(beta * (chosen - rejected - penalty * F.relu(-chosen)))


def apo_zero_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """1 - sigmoid(beta c) + sigmoid(beta r): chosen becomes likelier, rejected less likely, each by itself
    (APO-zero, arXiv 2408.06266, section 4). Log-ratios in nats, each `[B]` -> `[B]`."""
    check_shapes(chosen, rejected)
    return 1 - (beta * chosen).sigmoid() + (beta * rejected).sigmoid()


def kto_loss(ratio: Tensor, desirable: Tensor, beta: float, reference_point: float = 0.0) -> Tensor:
    """1 - sigmoid(beta (r - z)) of what is desirable, 1 - sigmoid(beta (z - r)) of what is not, with
    log-ratios r in nats and the reference point z (KTO, arXiv 2402.01306, eq. 8, both weights 1).

    ratio `[B]`, desirable `[B]` bool -> `[B]`.
    """
    check_shapes(ratio, desirable)
    margin = beta * (ratio - reference_point)
    return 1 - torch.where(desirable, margin, -margin).sigmoid()


def kto_reference_point(ratios: Tensor) -> float:
    """max(0, mean log-ratio of outputs under prompts that are not theirs), in nats, through which no gradient
    flows (KTO, arXiv 2402.01306, section 4.1). ratios `[M]`."""
    return max(0.0, float(ratios.mean()))
