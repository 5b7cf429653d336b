"""Advantages, worked out by hand and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eto.credit.advantages import gae, normalised, penalised_rewards

floats = st.floats(-2, 2, allow_nan=False, width=32)


def test_rewards_by_hand():
    rewards = penalised_rewards(np.array([-1.0, -2.0, -0.5]), np.array([-1.5, -2.0, -0.25]), 0.8, 0.1)
    assert rewards == pytest.approx([-0.05, 0.0, 0.8 + 0.025])


def test_gae_by_hand():
    """delta = 0.5 * 0.4 - 0.2 = 0, 0.5 * 0.1 - 0.4 = -0.35, 1 - 0.1 = 0.9; A from the end."""
    advantages, returns = gae(np.array([0.0, 0.0, 1.0]), np.array([0.2, 0.4, 0.1]), 0.5, 0.8)
    last, middle = 0.9, -0.35 + 0.4 * 0.9
    assert advantages == pytest.approx([0.0 + 0.4 * middle, middle, last])
    assert returns == pytest.approx([0.4 * middle + 0.2, middle + 0.4, 1.0])


@given(arrays(np.float64, 6, elements=floats), arrays(np.float64, 6, elements=floats), st.floats(0, 1))
def test_gae_at_its_ends(rewards, values, discount):
    """With decay 1 the return is that of the episode; with decay 0 the advantage is one step's error."""
    sums = [sum(discount ** (k - t) * rewards[k] for k in range(t, 6)) for t in range(6)]
    assert gae(rewards, values, discount, 1.0)[1] == pytest.approx(sums, abs=1e-9)
    after = [*values[1:], 0.0]
    assert gae(rewards, values, discount, 0.0)[0] == pytest.approx(
        [r + discount * v - now for r, v, now in zip(rewards, after, values, strict=True)], abs=1e-9
    )


def test_normalised_over_all_episodes():
    one, other = normalised([np.array([1.0, 3.0]), np.array([5.0])])
    every = np.concatenate([one, other])
    assert every.mean() == pytest.approx(0) and every.std() == pytest.approx(1)
    assert [each.tolist() for each in normalised([np.full(2, 7.0), np.full(1, 7.0)])] == [[0.0, 0.0], [0.0]]
