"""UCB and LinUCB against indices worked out by hand and direct linear algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eto.environments.bandit.games import bernoulli, played
from eto.environments.bandit.oracles import LinUcb, Ucb, Uniform, oracle


def test_ucb_pulls_each_arm_once_and_then_the_highest_index() -> None:
    ucb = Ucb(3)
    for arm, paid in ((0, 1.0), (1, 0.0), (2, 0.0)):
        assert ucb.choose() == arm, "each arm once, in their order"
        ucb.learn(None, arm, paid)
    ucb.learn(None, 0, 0.0)  # t = 4: arm 0 paid 1 of 2, arms 1 and 2 paid 0 of 1
    bonus = math.sqrt(0.5 * math.log(4))
    assert ucb.terms()[0] == pytest.approx((0.5, bonus / math.sqrt(2)))
    assert ucb.terms()[1] == pytest.approx((0.0, bonus))
    # 0.5 + 0.589 = 1.089 against 0.833: arm 0. After it fails again, 0.333 + 0.518 = 0.851 against 0.897.
    assert ucb.choose() == 0
    ucb.learn(None, 0, 0.0)
    assert 1 / 3 + math.sqrt(0.5 * math.log(5) / 3) < math.sqrt(0.5 * math.log(5))
    assert ucb.choose() == 1, "of equal indices the lowest arm"


def test_an_arm_that_was_never_pulled_has_an_infinite_bonus() -> None:
    assert Ucb(2).terms()[1] == (0.0, math.inf)


def test_greedy_has_no_bonus_at_all() -> None:
    greedy = Ucb(2, alpha=0.0)
    greedy.learn(None, 0, 0.2)
    greedy.learn(None, 1, 0.1)
    for _ in range(500):  # a bonus of any size would bring arm 1 back by now
        assert greedy.choose() == 0
        greedy.learn(None, 0, 0.2)
    assert [term.bonus for term in greedy.terms()] == [0.0, 0.0]
    explorer = Ucb(2)
    explorer.pulls, explorer.paid = list(greedy.pulls), list(greedy.paid)
    assert explorer.choose() == 1


def test_linucb_is_the_ridge_regression_of_each_arm() -> None:
    draw = np.random.default_rng(0)
    alpha, dimensions = 0.7, 4
    ours = LinUcb(3, dimensions, alpha)
    a = [np.eye(dimensions) for _ in range(3)]
    b = [np.zeros(dimensions) for _ in range(3)]
    for _ in range(60):
        user = draw.normal(size=dimensions)
        for (value, bonus), matrix, vector in zip(ours.terms(user), a, b, strict=True):
            theta = np.linalg.solve(matrix, vector)
            assert value == pytest.approx(theta @ user, abs=1e-9)
            assert bonus == pytest.approx(alpha * math.sqrt(user @ np.linalg.solve(matrix, user)), abs=1e-9)
        arm, paid = int(draw.integers(3)), float(draw.normal())
        ours.learn(user, arm, paid)
        a[arm] += np.outer(user, user)
        b[arm] += paid * user
    expected = [
        np.linalg.solve(m, v) @ user + alpha * math.sqrt(user @ np.linalg.solve(m, user))
        for m, v in zip(a, b, strict=True)
    ]
    assert ours.choose(user) == int(np.argmax(expected))


def test_greedy_linucb_takes_the_best_estimate() -> None:
    greedy = LinUcb(2, 1, alpha=0.0)
    user = np.array([1.0])
    greedy.learn(user, 1, 0.5)  # θ_1 = 0.5 / 2
    assert greedy.terms(user) == [(0.0, 0.0), (0.25, 0.0)] and greedy.choose(user) == 1


def test_rounding_does_not_decide_between_equal_arms() -> None:
    linear = LinUcb(2, 2)
    user, other = np.array([0.1, 0.3]), np.array([0.3, -0.1])
    for arm, order in ((0, (user, other)), (1, (other, user))):  # the same data, taken in two orders
        for each in order:
            linear.learn(each, arm, 0.7)
    assert linear.choose(user) == 0


def test_oracles_hold_the_state_of_one_episode() -> None:
    bandit = bernoulli(5, "easy", 50, np.random.default_rng(3))
    first = oracle(bandit.arms, bandit.dimensions)
    pulls = played(bandit, first)
    assert played(bandit, oracle(bandit.arms, bandit.dimensions)) == pulls
    assert played(bandit, first) != pulls, "an oracle that was used goes on from what it knows"


def test_random_pulls_are_even_and_repeatable() -> None:
    pulls = [Uniform(4, 7).choose() for _ in range(3)]
    assert len(set(pulls)) == 1
    one = Uniform(4, 7)
    counts = np.bincount([one.choose() for _ in range(4000)])
    assert abs(counts - 1000).max() < 120  # 4.4 standard deviations
