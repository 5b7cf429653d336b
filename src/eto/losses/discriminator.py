"""The loss of a discriminator between the agent's actions and the expert's."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from eto.losses.shapes import check_shapes


def discriminator_loss(logits: Tensor, of_agent: Tensor, weights: Tensor) -> Tensor:
    """-w log D for the agent's actions and -w log(1 - D) for the expert's, with D = sigma(logit): minimised,
    it is GAIL's max E_pi log D + E_e log(1 - D) (arXiv 1606.03476, algorithm 1).

    logits, of_agent (1 the agent's, 0 the expert's), weights: each `[N]`, one value an action -> `[N]`.
    """
    check_shapes(logits, of_agent, weights)
    return binary_cross_entropy_with_logits(logits, of_agent, weights, reduction="none")
