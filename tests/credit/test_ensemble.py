"""An ensemble of estimates, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eto.credit.ensemble import fit_ensemble, most_disputed, optimistic, pessimistic
from eto.errors import InputError


def test_best_and_worst_case_of_estimates():
    estimates = np.array([[0.0, 0.4], [1.0, 0.6]])  # means 0.5 and 0.5, deviations 0.5 and 0.1
    assert optimistic(estimates).tolist() == [1.0, 0.6]
    assert pessimistic(estimates).tolist() == [0.0, 0.4]
    assert optimistic(estimates, 2.0) == pytest.approx([1.5, 0.7])
    assert pessimistic(estimates, 2.0) == pytest.approx([-0.5, 0.3])
    assert most_disputed(estimates) == 0 and most_disputed(estimates[:, ::-1]) == 1
    assert most_disputed(np.zeros((3, 4))) == 0


def test_one_episode_without_prior_is_ridge_regression():
    """Feature 1 at rewards 1 and 0 with features 1 and 0: w = 1 * 0.5 / (1 + 1), for the mean is 0.5."""
    points, rewards = np.array([[1.0], [0.0]]), np.array([1.0, 0.0])
    made = fit_ensemble(points, rewards, [0, 0], heads=2, ridge=1.0, prior=0.0, seed=0)
    assert made.weights == pytest.approx(np.full((2, 1), 0.25))
    assert made.estimates(np.array([[2.0]])) == pytest.approx(np.full((2, 1), 1.0))


def test_fewer_rows_than_features_give_the_same_estimates():
    """Rows of zeros decide nothing: with them there are as many rows as features."""
    draw = np.random.default_rng(5)
    points, rewards = draw.normal(size=(3, 6)), np.array([0.0, 1.0, 0.5])
    args = {"heads": 3, "ridge": 0.7, "prior": 0.4, "seed": 2}
    few = fit_ensemble(points, rewards, [0, 0, 0], **args)
    padded = np.concatenate([points, np.zeros((4, 6))])
    many = fit_ensemble(padded, np.append(rewards, np.full(4, 0.5)), [0] * 7, **args)
    assert few.weights == pytest.approx(many.weights) and few.mean == many.mean


def test_estimates_differ_where_nothing_was_seen():
    points = np.repeat(np.array([[1.0, 0.0]]), 200, axis=0)
    made = fit_ensemble(points, np.ones(200), [0] * 200, heads=8, ridge=1.0, prior=0.5, seed=1)
    known, unknown = made.estimates(np.eye(2)).std(axis=0)
    assert known < 0.01 and unknown > 0.2
    assert most_disputed(made.estimates(np.eye(2))) == 1


def test_rows_of_an_episode_are_drawn_together_and_a_seed_repeats_the_fit():
    """Two rows that contradict each other in one episode always weigh alike: no head takes a side."""
    points, rewards = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0, 0.5])
    args = {"heads": 16, "ridge": 0.1, "prior": 0.0, "seed": 3}
    together = fit_ensemble(points, rewards, [0, 0, 1], **args)
    assert together.weights == pytest.approx(np.zeros((16, 2)))
    apart = fit_ensemble(points, rewards, [0, 1, 2], **args)
    assert apart.weights[:, 0].std() > 0.05
    assert np.array_equal(apart.weights, fit_ensemble(points, rewards, [0, 1, 2], **args).weights)


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(InputError, match="no turns"):
        fit_ensemble(np.zeros((0, 2)), np.zeros(0), [], heads=2, ridge=1.0, prior=0.1, seed=0)
