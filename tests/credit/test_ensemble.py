"""An ensemble of estimates, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eto.credit.ensemble import fit_ensemble, most_disputed, opposed, optimistic, pessimistic, spread
from eto.credit.monte_carlo import Branch, Cut
from eto.errors import InputError
from eto.types import Message, StopReason, Task, Trajectory, Turn


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


def walk(number: int, *moves: tuple[str, str], sample: int = 0) -> Trajectory:
    """An episode of task `number`: actions, each with what came back."""
    task = Task(f"toy/walk/{number}", "toy", "walk", "train")
    turns = tuple(Turn(action, observation) for action, observation in moves)
    return Trajectory(
        task, (Message("user", "Go."),), turns, 0.0, False, StopReason.OUT_OF_TURNS, "a", sample
    )


def test_states_are_spread_over_a_task_and_none_comes_twice():
    first = walk(0, ("north", "hall"), ("east", "shed"), ("east", "yard"))
    second = walk(0, ("north", "hall"), ("west", "pond"), sample=1)  # two states are the first one's
    other = walk(1, ("up", "roof"))
    found = spread([other, second, first], 3)
    assert [(each.trajectory.task.id[-1], each.trajectory.sample, each.turns) for each in found] == [
        *(("0", 0, at) for at in range(3)),
        ("1", 0, 0),
    ]
    longer = walk(2, *((f"step {n}", f"place {n}") for n in range(10)))
    assert [each.turns for each in spread([longer], 3)] == [0, 3, 6], "10 states, every 10/3"
    assert [each.turns for each in spread([first, second], 9)] == [0, 1, 2]


def test_the_highest_against_the_lowest_by_either_bound():
    """Estimates of the actions by two heads; by the lowest of both b > c > a, by the highest a > c > b."""
    of = {"a": (0.0, 1.0), "b": (0.5, 0.5), "c": (0.3, 0.7)}
    own = walk(0, ("north", "hall"), ("a", "shed"))
    tried = [walk(0, ("north", "hall"), (action, "?"), sample=n) for n, action in enumerate("bcb")]
    found = [Branch(own, 1, each) for each in tried]

    def estimates(state: Cut, actions) -> np.ndarray:
        assert (state.trajectory, state.turns) == (own, 1) and list(actions) == ["a", "b", "c"]
        return np.array([of[action] for action in actions]).T

    for value, best, worst in ((pessimistic, "b", "a"), (optimistic, "a", "b")):
        [pair] = opposed(found, estimates, value, 0.4)
        assert [pair.chosen.turns[1].action, pair.rejected.turns[1].action] == [best, worst]
        assert [turn.loss for turn in pair.chosen.turns] == [False, True] and len(pair.rejected.turns) == 2
        assert (pair.kind, pair.shared_turns) == ("action", 1)
    assert not opposed(found, estimates, pessimistic, 0.5), "0.5 apart is not more than that"
    assert not opposed([Branch(own, 1, own)], lambda state, actions: np.zeros((2, 1)), optimistic, 0.0)
