"""What the losses of pairs pull at, worked out by hand: the arithmetic behind weights and anchors."""

from __future__ import annotations

import math

import pytest
import torch
from test_losses import CHOSEN, REJECTED, example, logs
from torch import tensor

from eto.losses.preference import (
    apo_zero_loss,
    dpo_loss,
    dpop_loss,
    kto_loss,
    kto_reference_point,
    robust_dpo_loss,
)
from eto.settings import DpoSettings
from eto.training.log_probs import TokenOutputs
from eto.training.preference import pair_loss

LN3 = math.log(3)


@pytest.mark.parametrize(
    ("settings", "of_chosen"),
    [
        (DpoSettings(beta=0.2), -0.1),  # -beta/2 a token
        (DpoSettings(beta=0.2, sft_weight=1.0), -0.1 - 1 / 3),  # 1/N more, N = 3
        (DpoSettings(beta=0.2, sft_weight=0.1, anchor="sum"), -0.2),  # the weight more
        (DpoSettings(beta=0.2, loss="apo_zero"), -0.05),  # -beta/4
        (DpoSettings(beta=0.2, loss="dpop"), -0.1),  # nothing lost yet: DPO
        (DpoSettings(beta=0.2, loss="ipo"), -2 * 2.5),  # -2 (1/(2 beta))
    ],
    ids=["dpo", "mean anchor", "sum anchor", "apo zero", "dpo positive", "ipo"],
)
def test_the_pull_on_a_chosen_token_at_the_start(settings, of_chosen):
    """Gradients by a token's log-prob where the policy is the reference."""
    leaves = [logs(p).requires_grad_() for p in (CHOSEN, REJECTED)]
    start = example()
    references = {"reference": tuple(leaf.detach().numpy() for leaf in leaves)}
    start = type(start)(start.tree, start.weights, references=references)
    loss, _ = pair_loss(start, [TokenOutputs(leaf) for leaf in leaves], settings)
    loss.backward()
    assert leaves[0].grad.tolist() == pytest.approx([of_chosen] * 3, abs=1e-6)
    assert min(leaves[1].grad.tolist()) > 0


def test_dmpo_of_a_pair():
    """DMPO is DPO with turns that weigh less the later they are: 1 and 1/3 for T = 2 and gamma = 1/2, by
    phi(j, T) = gamma^j (1 - gamma^(T-j)) / (1 - gamma^T)."""
    weights = ((1, 1, 1 / 3), (1, 1 / 3))
    leaves = [TokenOutputs(logs(CHOSEN)), TokenOutputs(logs(REJECTED))]
    margin = math.log(0.5 * 0.8 / (0.4 * 0.5)) + math.log(0.9 / 0.9) / 3
    margin -= math.log(0.1 / 0.2) + math.log(0.5 / 0.6) / 3
    loss, _ = pair_loss(example(weights), leaves, DpoSettings(beta=1.0))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-margin)), abs=1e-6)


def test_robust_dpo_is_dpo_on_the_true_labels_in_expectation():
    margin = tensor([-1.7, 0.3, 2.5])
    expected = 0.7 * robust_dpo_loss(margin, 0.5, 0.3) + 0.3 * robust_dpo_loss(-margin, 0.5, 0.3)
    torch.testing.assert_close(expected, dpo_loss(margin, 0.5))


def test_dpo_positive_pulls_a_chosen_that_lost_back_up():
    # d loss / d chosen = -beta (1 + penalty) sigmoid(-margin): -1 * 3 * 1/2.
    chosen = tensor(-LN3, requires_grad=True)
    dpop_loss(chosen, tensor(-3 * LN3), 1.0, penalty=2.0).backward()
    assert float(chosen.grad) == pytest.approx(-1.5)


def test_apo_zero_judges_each_side_alone():
    """Unlike DPO, a rejected side that has fallen far does not let chosen go."""
    chosen = tensor(0.0, requires_grad=True)
    pulls = [
        float(torch.autograd.grad(loss(chosen, tensor(rejected)), chosen)[0])
        for loss in (lambda c, r: apo_zero_loss(c, r, 0.2), lambda c, r: dpo_loss(c - r, 0.2))
        for rejected in (0.0, -50.0)
    ]
    assert pulls[:2] == pytest.approx([-0.05, -0.05])
    assert pulls[2] == pytest.approx(-0.1) and abs(pulls[3]) < 1e-4


def test_kto_around_a_reference_point():
    # beta (r - z) = ln 3 and -ln 3: desirable 1 - 3/4 and 1 - 1/4, undesirable 3/4 and 1/4.
    ratios = tensor([2 * LN3 + 1, -2 * LN3 + 1] * 2)
    desirable = tensor([True, True, False, False])
    assert kto_loss(ratios, desirable, 0.5, 1.0).tolist() == pytest.approx([0.25, 0.75, 0.75, 0.25])
    assert kto_reference_point(tensor([1.0, 3.0, -1.0])) == pytest.approx(1.0)
    assert kto_reference_point(tensor([1.0, -3.0])) == 0.0
