"""PPO's losses, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from eto.losses.policy_gradient import clipped_policy_loss, clipped_value_loss, expectile_loss


def test_policy_loss_by_hand():
    """Ratios 2, 2, 0.5 and 0.5 with clip 0.2: gains are cut at 1.2 and 0.8, losses never."""
    ratios = tensor([2.0, 2.0, 0.5, 0.5])
    loss, clipped = clipped_policy_loss(ratios.log(), torch.zeros(4), tensor([1.0, -1.0, 1.0, -1.0]), 0.2)
    assert loss.tolist() == pytest.approx([-1.2, 2.0, -0.5, 0.8])
    assert clipped.tolist() == [True, False, False, True]


def test_what_is_clipped_has_no_gradient():
    log_probs = tensor([math.log(2.0), math.log(0.5)], requires_grad=True)
    loss, clipped = clipped_policy_loss(log_probs, torch.zeros(2), torch.ones(2), 0.2)
    loss.sum().backward()
    assert log_probs.grad.tolist() == pytest.approx([0.0, -0.5])
    assert clipped.tolist() == [True, False]


def test_at_the_old_policy_the_gradient_is_the_policy_gradient():
    log_probs = tensor([-1.0, -2.0], requires_grad=True)
    loss, _ = clipped_policy_loss(log_probs, log_probs.detach(), tensor([0.5, -3.0]), 0.2)
    loss.sum().backward()
    assert log_probs.grad.tolist() == pytest.approx([-0.5, 3.0])


def test_value_loss_by_hand():
    """A value that moved beyond the clip counts with the larger error."""
    values, old, returns = tensor([0.1, 0.9, 0.9]), tensor([0.0, 0.0, 0.0]), tensor([1.0, 1.0, 0.0])
    assert clipped_value_loss(values, old, returns, 0.2).tolist() == pytest.approx(
        [0.5 * 0.81, 0.5 * 0.64, 0.5 * 0.81]
    )


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shapes differ"):
        clipped_policy_loss(torch.zeros(3), torch.zeros(1), torch.zeros(3), 0.2)


def test_expectiles_by_hand():
    """Errors 1 and -1 weigh 0.8 and 0.2; at one half it is half the squared error."""
    loss = expectile_loss(tensor([0.0, 0.0]), tensor([1.0, -1.0]), 0.8)
    assert loss.tolist() == pytest.approx([0.8, 0.2])
    assert expectile_loss(tensor([0.0]), tensor([2.0]), 0.5).tolist() == pytest.approx([2.0])


def test_an_expectile_lies_above_the_mean():
    """Of outcomes 0 and 1 in equal parts, the value whose loss has no slope is the expectile itself."""
    value = tensor(0.8, requires_grad=True)
    loss = expectile_loss(value.expand(2), tensor([0.0, 1.0]), 0.8).sum()
    loss.backward()
    assert float(value.grad) == pytest.approx(0.0, abs=1e-6)
