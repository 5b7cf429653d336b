"""The discriminator's loss, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from eto.losses.discriminator import discriminator_loss


def test_by_hand():
    """D = 3/4 (logit log 3): -log 3/4 for the agent's action, -log 1/4 for the expert's; weights multiply."""
    logits = tensor([math.log(3.0)] * 3)
    loss = discriminator_loss(logits, tensor([1.0, 0.0, 1.0]), tensor([1.0, 1.0, 0.25]))
    assert loss.tolist() == pytest.approx([math.log(4 / 3), math.log(4), math.log(4 / 3) / 4])


def test_it_pulls_the_agents_up_and_the_experts_down():
    """The gradient is w (D - 1) for the agent's action and w D for the expert's."""
    logits = tensor([0.0, 0.0, math.log(3.0)], requires_grad=True)
    discriminator_loss(logits, tensor([1.0, 0.0, 0.0]), tensor([1.0, 1.0, 2.0])).sum().backward()
    assert logits.grad.tolist() == pytest.approx([-0.5, 0.5, 1.5])


def test_far_logits_stay_finite():
    loss = discriminator_loss(tensor([-500.0, 500.0]), tensor([1.0, 0.0]), torch.ones(2))
    assert loss.tolist() == pytest.approx([500.0, 500.0])


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="shapes differ"):
        discriminator_loss(torch.zeros(2), torch.zeros(1), torch.ones(2))
