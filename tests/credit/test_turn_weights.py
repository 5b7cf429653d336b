"""The turns that carry the contrast."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eto.credit.contrast import shared_turns
from eto.credit.turn_weights import turn_weights
from eto.errors import InputError
from eto.settings import ContrastSettings
from eto.types import Message, Pair, StopReason, Task, ToolCall, Trajectory, Turn

TASK = Task("toy/kind/1", "toy", "kind", "train")


def pair(chosen: str, rejected: str) -> Pair:
    """A pair whose actions are letters; each observation says what was done so far."""
    sides = [
        Trajectory(
            TASK,
            (Message("user", "Do it."),),
            tuple(Turn(action, actions[: n + 1]) for n, action in enumerate(actions)),
            reward,
            None,
            StopReason.TERMINATED,
            "sft",
        )
        for actions, reward in ((chosen, 1.0), (rejected, 0.0))
    ]
    return Pair(TASK, *sides, shared_turns(*sides))


@pytest.mark.parametrize(
    ("weighting", "chosen", "rejected"),
    [
        (ContrastSettings(), (1, 1, 1, 1), (1, 1, 1, 1, 1, 1)),
        (ContrastSettings(turns="from_divergence"), (0, 0, 1, 1), (0, 0, 1, 1, 1, 1)),
        (ContrastSettings(turns="window", window=3), (0, 0, 1, 1), (0, 0, 1, 1, 1, 0)),
        (ContrastSettings(turns="window", window=1), (0, 0, 1, 0), (0, 0, 1, 0, 0, 0)),
        (ContrastSettings(discount=0.5), (1, 1, 1, 0.5), (1, 1, 1, 0.5, 0.25, 0.125)),
        (
            ContrastSettings(turns="from_divergence", discount=0.5),
            (0, 0, 1, 0.5),
            (0, 0, 1, 0.5, 0.25, 0.125),
        ),
        (ContrastSettings(turns="window", window=2, discount=0.5), (0, 0, 1, 0.5), (0, 0, 1, 0.5, 0, 0)),
        (ContrastSettings(repeats=False), (1, 1, 1, 1), (1, 1, 1, 0, 0, 1)),
        (ContrastSettings(turns="from_divergence", repeats=False), (0, 0, 1, 1), (0, 0, 1, 0, 0, 1)),
        (
            ContrastSettings(turns="from_divergence", discount=0.5, repeats=False),
            (0, 0, 1, 0.5),
            (0, 0, 1, 0, 0, 0.125),
        ),
    ],
)
def test_by_hand(weighting: ContrastSettings, chosen: tuple, rejected: tuple) -> None:
    # They part after "ab"; on the rejected side "x" and "a" come again, "y" is new.
    assert turn_weights(pair("abcd", "abxxay"), weighting) == (chosen, rejected)


def test_dmpo_by_hand() -> None:
    weighting = ContrastSettings(discount=0.5, discount_kind="dmpo")
    chosen, rejected = turn_weights(pair("ab", "acd"), weighting)
    # γ = 1/2, T = 2: (1 - 1/4) / (1 - 1/4), (1/2)(1 - 1/2) / (1 - 1/4).
    assert chosen == pytest.approx((1, 1 / 3))
    # T = 3: 1, (1/2)(3/4) / (7/8), (1/4)(1/2) / (7/8).
    assert rejected == pytest.approx((1, 3 / 7, 1 / 7))
    undiscounted = ContrastSettings(discount_kind="dmpo")
    assert turn_weights(pair("ab", "acd"), undiscounted)[1] == pytest.approx((1, 2 / 3, 1 / 3))
    parted = ContrastSettings(turns="from_divergence", discount=0.5, discount_kind="dmpo")
    assert turn_weights(pair("ab", "acd"), parted)[1] == pytest.approx((0, 1, 1 / 3))


def test_dmpo_with_a_discount_near_one_is_its_limit() -> None:
    close = turn_weights(pair("ab", "acdefgh"), ContrastSettings(discount=1 - 1e-7, discount_kind="dmpo"))
    limit = turn_weights(pair("ab", "acdefgh"), ContrastSettings(discount_kind="dmpo"))
    assert close[1] == pytest.approx(limit[1], abs=1e-5)


def test_repeats_count_on_the_chosen_side_too_and_blanks_do_not_matter() -> None:
    one = pair("ab", "ac")
    looped = Trajectory(
        TASK, (), (Turn("look", ""), Turn(" look\n", "")), 1.0, None, StopReason.TERMINATED, "sft"
    )
    assert turn_weights(Pair(TASK, looped, one.rejected, 0), ContrastSettings(repeats=False))[0] == (1.0, 0.0)


def test_pairs_without_contrast_are_told_apart() -> None:
    only_repeats, sound = pair("abc", "abab"), pair("abc", "abx")
    weighting = ContrastSettings(turns="from_divergence", repeats=False)
    assert turn_weights(only_repeats, weighting)[1] == (0, 0, 0, 0)
    assert all(any(side) for side in turn_weights(sound, weighting))
    assert all(any(side) for side in turn_weights(only_repeats, ContrastSettings()))


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"turns": "some"},
            {"window": 0},
            {"discount": 0.0},
            {"discount": 1.1},
            {"discount_kind": "linear"},
        ),
        *({"discount": float("nan")}, {"repeats": 1}, {"window": True, "turns": "window"}),
        *({"window": 2}, {"window": 2, "turns": "from_divergence"}, {"turns": "window"}),
    ],
)
def test_a_weighting_out_of_range_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ContrastSettings(**wrong)


turns = st.tuples(st.sampled_from(["all", "from_divergence"]), st.none())
windows = st.tuples(st.just("window"), st.integers(1, 5))
weightings = st.builds(
    lambda shape, discount, kind, repeats: ContrastSettings(
        turns=shape[0], window=shape[1], discount=discount, discount_kind=kind, repeats=repeats
    ),
    turns | windows,
    st.floats(0.01, 1.0),
    st.sampled_from(["geometric", "dmpo"]),
    st.booleans(),
)
actions = st.text("abc", min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(actions, actions, weightings)
def test_properties(chosen: str, rejected: str, weighting: ContrastSettings) -> None:
    one = pair(chosen, rejected)
    shared = one.shared_turns
    for side, weights in zip((chosen, rejected), turn_weights(one, weighting), strict=True):
        assert len(weights) == len(side)
        assert all(0.0 <= weight <= 1.0 + 1e-12 for weight in weights)
        carrying = [n for n, weight in enumerate(weights) if weight > 0]
        if weighting.turns != "all":
            assert all(n >= shared for n in carrying)
        if weighting.turns == "window":
            assert all(n < shared + weighting.window for n in carrying)
        if weighting.repeats:
            assert weighting.turns == "all" or len(side) == shared or shared in carrying
        else:
            assert len({side[n] for n in carrying}) == len(carrying)
        # Later turns never count more than earlier ones.
        values = [weights[n] for n in carrying]
        assert all(a >= b - 1e-12 for a, b in pairwise(values))
    if weighting.discount_kind == "geometric" and weighting.repeats:
        # What both sides share carries the same weight, so that it cancels in DPO.
        left, right = turn_weights(one, weighting)
        assert left[:shared] == right[:shared]


def test_a_turn_without_loss_weighs_nothing() -> None:
    one = pair("ab", "ac")
    mute = replace(one.rejected, turns=(one.rejected.turns[0], replace(one.rejected.turns[1], loss=False)))
    one = replace(one, rejected=mute)
    assert turn_weights(one, ContrastSettings()) == ((1.0, 1.0), (1.0, 0.0))
    assert turn_weights(one, ContrastSettings(turns="from_divergence")) == ((0.0, 1.0), (0.0, 0.0))


def test_repeats_are_told_by_all_that_was_said() -> None:
    one = pair("aab", "c")
    calls = [(ToolCall("f", text),) for text in ('{"a": 1}', '{"a": 2}')]
    first, second = (
        replace(turn, tool_calls=call) for turn, call in zip(one.chosen.turns[:2], calls, strict=True)
    )
    weighting = ContrastSettings(repeats=False)
    assert turn_weights(one, weighting)[0] == (1.0, 0.0, 1.0)
    called = replace(one, chosen=replace(one.chosen, turns=(first, second, one.chosen.turns[2])))
    assert turn_weights(called, weighting)[0] == (1.0, 1.0, 1.0)


@settings(max_examples=50, deadline=None)
@given(actions, actions)
def test_the_default_is_the_papers_plain_sum(chosen: str, rejected: str) -> None:
    assert turn_weights(pair(chosen, rejected), ContrastSettings()) == (
        (1.0,) * len(chosen),
        (1.0,) * len(rejected),
    )
