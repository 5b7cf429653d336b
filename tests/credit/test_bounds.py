"""States of own episodes, the actions sampled there, and pairs by a bound, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

from test_monte_carlo import EXPERT, TASK, episode

from eto.credit.bounds import best_over_worst, candidates, spread_states
from eto.credit.monte_carlo import Branch, Cut
from eto.data.formats import read_pairs, write_pairs
from eto.types import StopReason


def test_states_are_different_ones_and_evenly_spread():
    one, other = episode("abcd", 1.0), episode("abx", 0.0)
    assert spread_states([one, other], 10) == [*(Cut(one, at) for at in range(4))], (
        "abx comes to none of its own"
    )
    further = episode("xyz", 0.0)
    assert spread_states([one, further], 3) == [Cut(one, 0), Cut(one, 2), Cut(further, 1)], "0, 2 and 4 of 6"
    elsewhere = episode("ab", 0.0, replace(TASK, id="toy/2"))
    assert spread_states([one, elsewhere], 1) == [Cut(one, 0), Cut(elsewhere, 0)], "of each task"
    failed = replace(one, stop=StopReason.ENVIRONMENT_FAILED)
    assert spread_states([failed, episode("", 0.0)], 2) == []


def branches_of(*actions: str, at: int = 1) -> list[Branch]:
    return [Branch(EXPERT, at, stopped(each)) for each in actions]


def stopped(actions: str, stop: StopReason = StopReason.OUT_OF_TURNS):
    return replace(episode(actions, 0.25), stop=stop)


def test_the_actions_of_a_state_are_different_ones():
    last = Branch(EXPERT, 3, stopped("abce", StopReason.TERMINATED))
    found = [*branches_of("ab", "ax", "ay", "ax"), *branches_of("abc", at=2), last]
    first, second = candidates(found)
    assert [each.side.actions[-1] for each in first] == ["b", "x", "y"], "the episode's own, then the others"
    assert [each.reward for each in first] == [None] * 3
    assert [each.reward for each in second] == [1.0, 0.25], "each of the two ended its episode"
    assert all([turn.loss for turn in each.side.turns] == [False, True] for each in first)
    assert first[1].after == Cut(first[1].side, 2) and first[1].after.prefix(None).turns[1].action == "x"


def test_the_highest_bound_is_preferred_to_the_lowest(tmp_path):
    [state] = candidates(branches_of("ax", "ay", "az"))
    [pair] = best_over_worst([state], [[0.2, 1.5, None, -0.5]])
    assert (pair.chosen.actions, pair.rejected.actions) == (("a", "x"), ("a", "z"))
    assert (pair.chosen.reward, pair.rejected.reward) == (1.0, 0.0), "clipped"
    assert (pair.kind, pair.chosen.success, pair.task) == ("action", None, TASK)
    assert best_over_worst([state], [[0.2, 0.7, 0.7, 0.2]], 0.5) == [], "not more than the least gap"
    [pair] = best_over_worst([state], [[0.2, 0.75, 0.75, 0.2]], 0.5)
    assert (pair.chosen.actions[-1], pair.rejected.actions[-1]) == ("x", "b"), "the first of equals"
    assert best_over_worst([state, state], [[None] * 4, [0.5, None, None, None]]) == []
    write_pairs(tmp_path / "pairs.jsonl", [pair])
    assert read_pairs(tmp_path / "pairs.jsonl") == [pair]
