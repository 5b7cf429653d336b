"""Losses of policy gradients over stored actions: PPO's clipped objectives.

Shapes: `[N]` is one value a token, or a step of what is credited.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eto.losses.shapes import check_shapes


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """-min(r A, clip(r, 1 - clip, 1 + clip) A) with r = pi(a|s) / pi_old(a|s) (PPO, arXiv 1707.06347, eq. 7).

    Each `[N]` -> (`[N]` losses, `[N]` bool: where the clipped side is the smaller and no gradient flows).
    """
    check_shapes(log_probs, old_log_probs, advantages)
    ratio = (log_probs - old_log_probs).exp()
    free, clipped = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    return -torch.minimum(free, clipped), clipped < free


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error, the larger of the value's and of the value's held within `clip` of what it
    was (as in the PPO authors' code). Each `[N]` -> `[N]`."""
    check_shapes(values, old_values, returns)
    held = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (held - returns) ** 2)


def expectile_loss(values: Tensor, targets: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(target < value)| (target - value)^2: above one half, values lean to the better
    outcomes (IQL, arXiv 2110.06169, eq. 5). Each `[N]` -> `[N]`."""
    check_shapes(values, targets)
    error = targets - values
    weight = torch.where(error < 0, 1 - expectile, expectile)
    return weight * error**2
