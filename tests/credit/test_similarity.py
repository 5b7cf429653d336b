"""Closeness to preferred trajectories and what it decides, against direct computation and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.closeness import concordance
from eto.credit.similarity import (
    PairRules,
    closeness,
    hardest,
    median_distance,
    mmd_squared,
    pairs_by_value,
    preferred_by_kind,
    with_bonus,
)
from eto.data.hashed_words import PLACES, action_vector, action_vectors, hashed_words, turn_vectors
from eto.errors import InputError
from eto.settings.similarity import SimilaritySettings
from eto.types import Message, StopReason, Task, ToolCall, Trajectory, Turn

PROMPT = (Message("user", "Do it."),)


def episode(actions: str, reward: float = 0.0, *, task: int = 0, kind: str = "k", sample: int = 0):
    turns = tuple(Turn(f"go {action}", f"room {action}", reward) for action in actions)
    which = Task(f"toy/{kind}/{task}", "toy", kind, "train")
    return Trajectory(which, PROMPT, turns, reward, None, StopReason.OUT_OF_TURNS, "sft", sample)


points = st.lists(st.lists(st.floats(-3, 3), min_size=2, max_size=2), min_size=1, max_size=6).map(np.array)


@given(points, points, st.floats(0.2, 5))
def test_the_discrepancy_is_that_of_the_formula(one, other, h):
    def mean(left, right):
        values = [math.exp(-sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / (2 * h * h))
                  for x in left for y in right]  # fmt: skip
        return sum(values) / len(values)

    expected = mean(one, one) - 2 * mean(one, other) + mean(other, other)
    found = mmd_squared(one, other, h)
    assert found == pytest.approx(expected, abs=1e-9) and 0 <= found <= 2
    assert found == pytest.approx(mmd_squared(other, one, h), abs=1e-12), "symmetric"
    assert mmd_squared(one, one[::-1], h) == pytest.approx(0, abs=1e-9), "0 for equal sets"


def test_the_discrepancy_by_hand():
    # One point against two, h = 1: k = 1, e^-1/2, e^-2 at distances 0, 1, 2.
    half, two = math.exp(-0.5), math.exp(-2)
    found = mmd_squared(np.array([[0.0]]), np.array([[1.0], [2.0]]), 1.0)
    assert found == pytest.approx(1 - 2 * (half + two) / 2 + (2 + 2 * half) / 4)
    assert median_distance(np.array([[0.0], [1.0], [4.0]])) == 3.0
    assert median_distance(np.array([[2.0], [2.0]])) == 1.0, "no distance to go by"
    with pytest.raises(InputError, match="empty"):
        mmd_squared(np.zeros((0, 1)), np.array([[1.0]]), 1.0)


def test_words_are_hashed_by_their_part():
    words = hashed_words("Go North, go!")
    assert words.shape == (PLACES,) and np.linalg.norm(words) == pytest.approx(1)
    assert sorted(np.abs(words[words != 0])) == pytest.approx([1 / math.sqrt(5), 2 / math.sqrt(5)])
    assert not hashed_words(" ,").any()
    assert not np.allclose(hashed_words("go", "action"), hashed_words("go", "observation"))
    [turn] = turn_vectors(episode("a"))
    assert np.linalg.norm(turn) == pytest.approx(1)
    said = hashed_words("go a", "action")
    assert turn @ said == pytest.approx(1 / math.sqrt(2)), "half of it is what was said"
    assert turn_vectors(episode("")).shape == (0, PLACES)


def test_an_action_has_words_of_its_own_for_what_was_read_before_it():
    played = episode("ab")
    first, second = action_vectors(played)
    assert np.array_equal(first, action_vector("Do it.", "go a")), "the prompt's last message came before"
    assert np.array_equal(second, action_vector("room a", "go b"))
    parts = hashed_words("go b", "action"), hashed_words("room a", "before")
    crossed = hashed_words("room a", "before go b")
    assert np.allclose(second, (sum(parts) + crossed) / math.sqrt(3))
    assert not np.allclose(crossed, hashed_words("room a", "before go a")), (
        "the words before it are others for another action"
    )
    assert action_vectors(episode("")).shape == (0, PLACES)


def test_functions_that_are_called_are_part_of_the_action():
    one, other = (
        replace(played, turns=tuple(replace(turn, action="", tool_calls=(call,)) for turn in played.turns))
        for played, call in ((episode("a"), ToolCall("go", f'{{"to": "{place}"}}')) for place in ("a", "b"))
    )
    assert np.array_equal(action_vectors(one)[0], action_vector("Do it.", 'go {"to": "a"}'))
    for vectors in (action_vectors, turn_vectors):
        assert not np.allclose(vectors(one), vectors(other))


def test_more_of_the_way_is_nearer():
    preferred = [episode("abcd", 1.0, task=1), episode("abce", 1.0, task=2)]
    near, less, far = closeness([episode("abcx"), episode("axxx"), episode("yyyy")], preferred, turn_vectors)
    assert near > less > far
    [same] = closeness([preferred[0]], [preferred[0]], turn_vectors)
    assert same == pytest.approx(1)
    points = np.concatenate([turn_vectors(each) for each in preferred])
    assert near == 1 - mmd_squared(turn_vectors(episode("abcx")), points, median_distance(points))
    with pytest.raises(InputError, match="no turn"):
        closeness([episode("")], preferred, turn_vectors)
    with pytest.raises(InputError, match="preferred set is empty"):
        closeness([episode("a")], [], turn_vectors)
    with pytest.raises(InputError, match="preferred set is empty"):
        closeness([episode("a")], [episode("", 1.0)], turn_vectors)


def test_the_preferred_set_is_of_the_task_type():
    broken = replace(episode("a", 1.0, task=5), stop=StopReason.ENVIRONMENT_FAILED)
    given = [
        episode("abc", 1.0, task=1),
        episode("ab", 1.0, task=1, sample=1),
        episode("abcd", 0.9, task=2),
        episode("a", 0.5, task=3),
        episode("a", 1.0, task=1, kind="other"),
        episode("a", 0.5, task=1, kind="never won"),
        broken,
    ]
    found = preferred_by_kind(given, 0.9, 2)
    assert found == {"k": [given[1], given[2]], "other": [given[4]]}, "one of each task first"
    assert preferred_by_kind(given, 0.9, 8)["k"] == [given[1], given[2], given[0]]


def test_pairs_out_of_ties():
    explored = [
        episode("ab", 0.0, sample=0),
        episode("ax", 0.0, sample=1),
        episode("yxzzz", 0.0, sample=2),
        episode("ac", 0.5, sample=3),
        episode("abc", 1.0, sample=4),
        episode("a", 0.0, task=1),
    ]
    values = dict(
        zip([(t.task.id, t.sample) for t in explored], (0.9, 0.5, 0.1, 0.2, 0.99, 0.3), strict=True)
    )
    rules = PairRules(per_task=1, least=0.1, margin_turns=2, below=1.0)
    [pair] = pairs_by_value(explored, values, rules)
    assert pair.chosen == explored[0] and pair.rejected.actions == explored[2].actions[:4]
    assert (pair.shared_turns, pair.kind, pair.task) == (0, "trajectory", explored[0].task)
    more = pairs_by_value(explored, values, replace(rules, per_task=9))
    assert [(p.chosen.sample, p.rejected.sample) for p in more] == [(0, 2), (0, 1), (1, 2)]
    assert pairs_by_value(explored, values, replace(rules, least=0.8)) == [], "strictly wider"
    assert pairs_by_value(explored, {}, rules) == []
    twice = [explored[0], explored[2], replace(explored[2], sample=1)]
    assert len(pairs_by_value(twice, values, replace(rules, per_task=9))) == 1, "the same two again"
    other_prompt = [explored[0], replace(explored[2], messages=())]
    assert pairs_by_value(other_prompt, values, rules) == []
    begins = [episode("ab", sample=0), episode("a", sample=1)]
    assert pairs_by_value(begins, values, rules) == [], "one begins the other"


def test_a_bonus_ranks_and_never_overrules_the_reward():
    explored = [episode("ab", 0.0, sample=0), episode("xy", 0.0, sample=1), episode("cd", 0.2, sample=2)]
    near = {("toy/k/0", 0): 0.9, ("toy/k/0", 1): 0.3, ("toy/k/0", 2): 0.3}
    values = with_bonus(explored, near, 0.5)
    # Mean 0.5, deviation sqrt((0.16 + 0.04 + 0.04) / 3) = sqrt(0.08).
    deviation = math.sqrt(0.08)
    expected = [0.5 * 0.4 / deviation, 0.5 * -0.2 / deviation, 0.2 + 0.5 * -0.2 / deviation]
    assert list(values.values()) == pytest.approx(expected)
    rules = PairRules(per_task=9, least=0.1)
    made = [(p.chosen.sample, p.rejected.sample) for p in pairs_by_value(explored, values, rules)]
    assert made == [(0, 1), (2, 1)], "not 0 over 2, whose reward is higher"
    flat = with_bonus(explored, dict.fromkeys(near, 0.5), 0.5)
    assert list(flat.values()) == [0.0, 0.0, 0.2]
    assert with_bonus([], {}, 0.5) == {}


def test_the_hardest_failures_stay():
    explored = [episode("a", 0.0, sample=n) for n in range(3)] + [episode("b", 1.0, sample=3)]
    explored += [episode("c", 0.0, task=1)]
    near = {("toy/k/0", 0): 0.1, ("toy/k/0", 1): 0.7}
    assert [t.sample for t in hardest(explored, near, 1.0, 1)] == [1, 3, 0]
    assert [t.sample for t in hardest(explored, near, 1.0, 2)] == [0, 1, 3, 0]
    assert hardest(explored, near, 1.0, 3) == explored


def test_concordance_leaves_the_task_itself_out():
    known = [episode("abc", 1.0, task=1)]
    explored = [
        episode("abx", 0.5, sample=0),
        episode("xyz", 0.0, sample=1),
        episode("aby", 1.0, sample=2),
        episode("xxx", 0.5, task=2, sample=0),
        episode("abc", 0.0, task=2, sample=1),
        episode("a", 0.0, task=3),
        episode("a", 1.0, kind="alone", sample=0),
        episode("b", 0.0, kind="alone", sample=1),
    ]
    settings = SimilaritySettings(least_reward=0.9)
    shares = concordance(explored, [*known, *explored], settings, turn_vectors)
    # Task 0: 0 over 1 and 2 over 1 are right; 2 and 0 are as near but for a word. Task 2: wrong.
    assert len(shares) == 2 and shares[0] >= 2 / 3 - 1e-9 and shares[1] == 0.0
