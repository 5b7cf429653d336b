"""What arms are worth and pay, by seed; rewards worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eto.environments.bandit.games import Bandit, bernoulli, contextual, gaussian


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("difficulty", "low", "high"), [("easy", 0.25, 0.75), ("hard", 0.4, 0.6)])
def test_bernoulli_arms_have_the_means_of_the_paper(difficulty: str, low: float, high: float) -> None:
    best = []
    for seed in range(200):
        bandit = bernoulli(5, difficulty, 20, drawn(seed))
        assert sorted(bandit.means[0]) == pytest.approx([low] * 4 + [high])
        assert set(np.unique(bandit.paid)) <= {0.0, 1.0}
        best.append(int(bandit.means[0].argmax()))
    assert np.bincount(best, minlength=5).min() > 20, "the best arm may be any"
    long = bernoulli(5, difficulty, 20_000, drawn(0))
    assert long.paid.mean(axis=0) == pytest.approx(long.means[0], abs=0.02)


@pytest.mark.parametrize(("difficulty", "spread"), [("easy", 1.0), ("hard", 3.0)])
def test_gaussian_arms_spread_as_in_the_paper(difficulty: str, spread: float) -> None:
    means = np.concatenate([gaussian(20, difficulty, 2, drawn(seed)).means[0] for seed in range(100)])
    assert means.std() == pytest.approx(spread, rel=0.05) and abs(means.mean()) < 0.15 * spread
    bandit = gaussian(5, difficulty, 20_000, drawn(1))
    noise = bandit.paid - bandit.means
    assert noise.std() == pytest.approx(spread, rel=0.02) and abs(noise.mean()) < 0.03 * spread


def test_a_seed_is_one_instance() -> None:
    one, again, other = (gaussian(5, "easy", 30, drawn(seed)) for seed in (4, 4, 5))
    assert (one.paid == again.paid).all() and (one.stand_ins == again.stand_ins).all()
    assert (one.paid != other.paid).any()


def test_reward_is_one_less_the_share_of_regret() -> None:
    # Gaps of the arms: 0, 2, 4 in each of 4 steps; regret of the worst arms 16.
    means = np.tile([5.0, 3.0, 1.0], (4, 1))
    bandit = Bandit(means, means, np.zeros(4, dtype=np.int64))
    assert bandit.gaps[0].tolist() == [0.0, 2.0, 4.0] and bandit.least_gap == 2.0
    assert bandit.reward([0, 0, 0, 0]) == 1.0 and bandit.reward([2, 2, 2, 2]) == 0.0
    assert bandit.reward([0, 1, 2, 0]) == pytest.approx(1 - (0 + 2 + 4 + 0) / 16)
    assert bandit.reward([0, 1]) == pytest.approx((4 + 2) / 16), "steps not played count as the worst arm"


def test_arms_that_are_all_equal_pay_by_the_step() -> None:
    means = np.ones((4, 2))
    bandit = Bandit(means, means, np.zeros(4, dtype=np.int64))
    assert bandit.reward([0]) == 0.25 and bandit.reward([0, 1, 1, 0]) == 1.0 and bandit.least_gap == 0.0


def test_with_users_the_best_arm_depends_on_who_is_served() -> None:
    table, features = np.array([[5.0, 1.0], [0.0, 2.0]]), np.array([[1.0], [-1.0]])
    bandit = contextual(table, features, 50, drawn(0))
    for step in range(50):
        row = 0 if bandit.user(step) == [1.0] else 1
        assert bandit.means[step].tolist() == table[row].tolist()
    assert set(bandit.means.argmax(axis=1)) == {0, 1}
    best = bandit.means.argmax(axis=1)
    assert bandit.reward(best) == 1.0 and bandit.reward(1 - best) == 0.0
    served = int((bandit.means[:, 0] == 5.0).sum())
    # Always arm 0 loses 2 with each user of the second kind; at stake are 4 and 2.
    assert bandit.reward([0] * 50) == pytest.approx(1 - 2 * (50 - served) / (4 * served + 2 * (50 - served)))


@given(st.integers(0, 1000), st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_reward_never_falls_and_stays_within_bounds(seed: int, pulls: list[int]) -> None:
    bandit = gaussian(5, "hard", 20, drawn(seed))
    course = [bandit.reward(pulls[:n]) for n in range(len(pulls) + 1)]
    assert course[0] == 0.0 and all(0.0 <= each <= 1.0 for each in course)
    assert all(after >= before - 1e-12 for before, after in pairwise(course))
