"""Which pairs are made, and what becomes of the trajectories that give none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eto.credit.contrast import (
    ContrastSummary,
    accumulated,
    contrast,
    contrast_result,
    one_begins_other,
    shared_turns,
)
from eto.errors import InputError
from eto.settings import ContrastSettings
from eto.types import Message, StopReason, Task, ToolCall, Trajectory, Turn


def episode(
    task: str, actions: str, reward: float, *, sample: int = 0, source: str = "sft", kind: str = "find"
) -> Trajectory:
    """A trajectory whose actions are the letters of `actions`; observations follow from them."""
    turns = tuple(
        Turn(action, f"after {actions[: n + 1]}", reward, (ord(action),)) for n, action in enumerate(actions)
    )
    return Trajectory(
        Task(task, "toy", kind, "train"),
        (Message("user", task),),
        turns,
        reward,
        None,
        StopReason.TERMINATED,
        source,
        sample=sample,
        tokenizer="tok",
    )


def expert(task: str, actions: str = "abc", reward: float = 1.0, kind: str = "find") -> Trajectory:
    return episode(task, actions, reward, source="expert", kind=kind)


def test_the_higher_reward_is_chosen_in_both_directions() -> None:
    experts = [expert("t2", reward=0.7), expert("t1"), expert("t3", reward=0.5)]
    explored = [episode("t2", "xyz", 1.0), episode("t1", "abz", 0.2), episode("t3", "q", 0.5)]
    lost, won = contrast(experts, explored)
    assert (lost.chosen, lost.rejected, lost.shared_turns) == (experts[1], explored[1], 2)
    assert (won.chosen, won.rejected, won.shared_turns) == (explored[0], experts[0], 0)
    assert (lost.kind, lost.task) == ("trajectory", experts[1].task)
    assert contrast_result(experts, explored).summary == ContrastSummary(
        wins=1, losses=1, ties=1, kinds={"find": 2}
    )


def test_one_direction_only_counts_the_unused_wins() -> None:
    rules = ContrastSettings(both_directions=False)
    result = contrast_result([expert("t", reward=0.5)], [episode("t", "xy", 1.0)], rules)
    assert (result.pairs, result.summary.wins_unused) == ([], 1)


@pytest.mark.parametrize(("margin", "turns"), [(5, 8), (0, 3), (2, 5), (None, 20)])
def test_the_rejected_side_ends_a_margin_after_the_chosen(margin: int | None, turns: int) -> None:
    (pair,) = contrast([expert("t")], [episode("t", "x" * 20, 0.0)], ContrastSettings(margin_turns=margin))
    assert len(pair.rejected.turns) == turns
    assert (pair.rejected.reward, len(pair.chosen.turns)) == (0.0, 3)


def test_an_expert_that_lost_is_cut_as_well_and_a_chosen_side_never() -> None:
    (pair,) = contrast([expert("t", "a" * 20, 0.5)], [episode("t", "x" * 4, 1.0)])
    assert len(pair.rejected.turns) == 9
    (pair,) = contrast([expert("t", "a" * 4, 0.5)], [episode("t", "x" * 20, 1.0)])
    assert (len(pair.chosen.turns), len(pair.rejected.turns)) == (20, 4)


@pytest.mark.parametrize(("gap", "pairs"), [(0.0, 1), (0.24, 1), (0.25, 0), (0.3, 0)])
def test_a_small_gap_is_a_tie(gap: float, pairs: int) -> None:
    assert len(contrast([expert("t")], [episode("t", "xy", 0.75)], ContrastSettings(min_gap=gap))) == pairs


@pytest.mark.parametrize("stop", [StopReason.ENVIRONMENT_FAILED, StopReason.ENGINE_FAILED])
def test_failed_episodes_never_enter(stop: StopReason) -> None:
    explored = [replace(episode("t", "xyz", 0.0), stop=stop), episode("t", "xq", 0.0, sample=1)]
    result = contrast_result([expert("t")], explored)
    assert [pair.rejected for pair in result.pairs] == explored[1:]
    assert (result.summary.failed, result.summary.losses) == (1, 1)
    failed_expert = replace(expert("t"), stop=stop)
    result = contrast_result([failed_expert], explored[1:])
    assert (result.pairs, result.summary.no_partner, result.summary.experts_unusable) == ([], 1, 1)


def test_what_cannot_be_paired_is_counted() -> None:
    other = replace(episode("t", "xy", 0.0), messages=(Message("user", "another start"),))
    explored = [other, episode("t", "", 0.0, sample=1), episode("alone", "x", 0.0)]
    result = contrast_result([expert("t")], explored)
    assert result.summary == ContrastSummary(prompt_differs=1, empty=1, no_partner=1)
    assert result.pairs == []


@pytest.mark.parametrize("actions", ["ab", "abc", "abcxyz"])
def test_a_side_without_a_turn_after_the_parting_gives_no_pair(actions: str) -> None:
    assert contrast_result([expert("t")], [episode("t", actions, 0.0)]).summary.no_parting == 1


def test_cutting_may_leave_nothing_to_prefer() -> None:
    rules = ContrastSettings(margin_turns=0)
    result = contrast_result([expert("t", "ab", 0.5), expert("u")], [episode("t", "abxyz", 0.0)], rules)
    assert result.summary.no_parting == 1


def test_samples_of_a_task_give_distinct_pairs_up_to_the_cap() -> None:
    explored = [episode("t", actions, 0.0, sample=n) for n, actions in enumerate(["xa", "xb", "xa", "xc"])]
    result = contrast_result([expert("t")], reversed(explored), ContrastSettings(per_task=2))
    assert [pair.rejected.sample for pair in result.pairs] == [0, 1]
    assert (result.summary.duplicates, result.summary.over_task_cap) == (1, 1)
    assert len(contrast([expert("t")], explored)) == 1
    assert len(contrast([expert("t")], explored, ContrastSettings(per_task=None))) == 3


def test_the_best_of_several_experts_is_the_partner() -> None:
    experts = [expert("t", "ab", 0.5), expert("t", "ac", 1.0), expert("t", "ad", 1.0)]
    (pair,) = contrast(experts, [episode("t", "xy", 0.7)])
    assert pair.chosen == experts[1]


def test_agents_are_paired_where_there_is_no_expert() -> None:
    explored = [episode("t", "x", 0.2), episode("t", "y", 0.9, sample=1), episode("t", "z", 0.9, sample=2)]
    assert contrast([], explored) == []
    result = contrast_result([], explored, ContrastSettings(agent_pairs=True))
    assert [(pair.chosen, pair.rejected) for pair in result.pairs] == [(explored[1], explored[0])]
    assert (result.summary.partners, result.summary.ties, result.summary.losses) == (1, 1, 1)


def test_kinds_are_balanced_and_do_not_depend_on_each_other() -> None:
    experts = [expert(f"{kind}/{n:02}", kind=kind) for kind in ("find", "boil") for n in range(20)]
    explored = [episode(each.task.id, "xy", 0.0, kind=each.task.kind) for each in experts]
    rules = ContrastSettings(per_kind=5)
    result = contrast_result(experts, explored, rules, seed=1)
    assert result.summary.kinds == {"boil": 5, "find": 5} and result.summary.over_kind_cap == 30
    found = [pair.task.id for pair in result.pairs]
    assert found == sorted(found) == [p.task.id for p in contrast(experts, explored, rules, seed=1)]
    only = contrast(experts[:20], explored[:20], rules, seed=1)
    assert [pair for pair in result.pairs if pair.task.kind == "find"] == only
    assert found != [p.task.id for p in contrast(experts, explored, rules, seed=2)]


def test_the_seed_is_bounded() -> None:
    with pytest.raises(InputError, match="contrast_result: seed"):
        contrast([], [], seed=-1)


@pytest.mark.parametrize("wrong", [{"margin_turns": -1}, {"per_task": 0}, {"per_kind": 0}, {"min_gap": -0.1}])
def test_a_rule_out_of_range_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        contrast([], [], ContrastSettings(**wrong))


def test_shared_turns_compares_observations_too() -> None:
    one, other = episode("t", "abcd", 1.0), episode("t", "abxd", 0.0)
    assert (shared_turns(one, other), shared_turns(one, one)) == (2, 4)
    seen = replace(other, turns=(replace(other.turns[0], observation="else"), *other.turns[1:]))
    assert shared_turns(one, seen) == 0


@st.composite
def explorations(draw) -> tuple[list[Trajectory], list[Trajectory]]:
    rewards = st.sampled_from([0.0, 0.5, 1.0])
    actions = st.text("ab", max_size=12)
    names = st.sampled_from(["t1", "t2", "t3"])
    experts = draw(st.lists(st.builds(expert, names, actions, rewards), max_size=4))
    stops = st.sampled_from([StopReason.TERMINATED, StopReason.OUT_OF_TURNS, StopReason.ENGINE_FAILED])
    explored = [
        replace(episode(draw(names), draw(actions), draw(rewards), sample=n), stop=draw(stops))
        for n in range(draw(st.integers(0, 8)))
    ]
    return experts, explored


@settings(max_examples=150, deadline=None)
@given(
    explorations(),
    st.builds(
        ContrastSettings,
        margin_turns=st.none() | st.integers(0, 6),
        min_gap=st.sampled_from([0.0, 0.5]),
        per_task=st.none() | st.integers(1, 3),
        both_directions=st.booleans(),
        agent_pairs=st.booleans(),
        per_kind=st.none() | st.integers(1, 3),
    ),
    st.randoms(use_true_random=False),
)
def test_every_pair_is_sound_and_every_trajectory_counted(found, rules: ContrastSettings, random) -> None:
    experts, explored = found
    result = contrast_result(experts, explored, rules)
    assert result.summary.explored == len(explored)
    assert result.summary.pairs == len(result.pairs) == sum(result.summary.kinds.values())
    for pair in result.pairs:
        assert pair.chosen.reward - pair.rejected.reward > rules.min_gap
        assert pair.chosen.messages == pair.rejected.messages
        assert not pair.chosen.failed and not pair.rejected.failed
        assert pair.shared_turns == shared_turns(pair.chosen, pair.rejected)
        assert pair.shared_turns < min(len(pair.chosen.turns), len(pair.rejected.turns))
        if rules.margin_turns is not None:
            assert len(pair.rejected.turns) <= len(pair.chosen.turns) + rules.margin_turns
    # Exploring in another order changes nothing.
    random.shuffle(explored)
    assert contrast_result(experts, explored, rules) == result


CALLS = [(ToolCall("search", f'{{"query": "{query}"}}'),) for query in ("mug", "cup")]


def test_turns_are_compared_by_all_that_was_said() -> None:
    one = expert("t", "ab")
    for change in (
        {"tool_calls": CALLS[0]},
        {"reasoning": "Hm."},
        {"answers": (Message("tool", "after a"),)},
    ):
        other = replace(one, turns=(replace(one.turns[0], **change), one.turns[1]))
        assert shared_turns(one, other) == 0
    called = [replace(one, turns=(replace(one.turns[0], tool_calls=calls),)) for calls in CALLS]
    assert shared_turns(*called) == 0


def test_samples_that_call_otherwise_are_no_duplicates() -> None:
    explored = [
        replace(episode("t", "x", 0.0, sample=n), turns=(Turn("", "", tool_calls=calls),))
        for n, calls in enumerate((*CALLS, CALLS[0]))
    ]
    result = contrast_result([expert("t")], explored, ContrastSettings(per_task=None))
    assert (len(result.pairs), result.summary.duplicates) == (2, 1)


def test_other_functions_are_another_prompt() -> None:
    explored = replace(episode("t", "x", 0.0), tools=({"name": "search"},))
    assert contrast_result([expert("t")], [explored]).summary.prompt_differs == 1


def test_what_answers_the_last_turn_does_not_part_the_sides() -> None:
    won = expert("t", "ab")
    lost = replace(episode("t", "abc", 0.0), turns=episode("t", "abc", 0.0).turns)
    ended = replace(won, turns=(won.turns[0], replace(won.turns[1], observation="")))
    for chosen in (won, ended):
        assert one_begins_other(chosen, lost) and one_begins_other(lost, chosen)
        assert contrast_result([chosen], [lost]).summary.no_parting == 1
    assert not one_begins_other(expert("t", "ax"), lost)


def test_pairs_of_earlier_rounds_come_first_and_each_counts_once() -> None:
    first = contrast([expert("t/1"), expert("t/2")], [episode("t/1", "ax", 0.1), episode("t/2", "ax", 0.1)])
    again = episode("t/1", "ax", 0.1, source="eto-1", sample=3)
    second = contrast([expert("t/1"), expert("t/3")], [again, episode("t/3", "ax", 0.1)])
    pairs = accumulated(first, second)
    assert [pair.task.id for pair in pairs] == ["t/2", "t/1", "t/3"]
    assert [pair.rejected.source for pair in pairs] == ["sft", "eto-1", "sft"], "of equals the latest"
    assert accumulated(pairs, []) == accumulated([], pairs) == accumulated(pairs, pairs) == pairs


def test_pairs_differ_by_what_was_heard_and_by_the_turns_that_carry_loss() -> None:
    [pair] = contrast([expert("t/1")], [episode("t/1", "ax", 0.1)])
    last = pair.rejected.turns[-1]
    for other in (replace(last, observation="else"), replace(last, loss=False), replace(last, action="y")):
        rejected = replace(pair.rejected, turns=(*pair.rejected.turns[:-1], other))
        assert len(accumulated([pair], [replace(pair, rejected=rejected)])) == 2
    assert len(accumulated([pair], [replace(pair, kind="suffix")])) == 2
    rewarded = replace(pair.rejected, turns=(*pair.rejected.turns[:-1], replace(last, log_probs=(-1.0,))))
    assert len(accumulated([pair], [replace(pair, rejected=rewarded)])) == 1


def test_the_widest_differences_come_first() -> None:
    explored = [
        episode("t/1", "ab", 0.5, sample=0),
        episode("t/1", "cd", 0.1, sample=1),
        episode("t/1", "ef", 0.9, sample=2),
    ]
    own = ContrastSettings(agent_pairs=True, match="widest")
    result = contrast_result([], explored, own)
    assert [(p.chosen.reward, p.rejected.reward) for p in result.pairs] == [(0.9, 0.1)]
    assert (result.summary.over_task_cap, result.summary.partners) == (2, 1)
    every = contrast_result([], explored, own.replace(per_task=None)).pairs
    # Of two differences of 0.4 that with the partner, the best one, is first.
    assert [(p.chosen.reward, p.rejected.reward) for p in every] == [(0.9, 0.1), (0.9, 0.5), (0.5, 0.1)]
    apart = contrast_result([], explored, own.replace(per_task=None, min_gap=0.45)).pairs
    assert [(p.chosen.reward, p.rejected.reward) for p in apart] == [(0.9, 0.1)]


def test_the_expert_is_one_of_those_compared() -> None:
    explored = [episode("t/1", "ef", 0.5, sample=0), episode("t/1", "cd", 0.1, sample=1)]
    widest = ContrastSettings(match="widest", per_task=None)
    pairs = contrast_result([expert("t/1")], explored, widest).pairs
    assert [(p.chosen.source, p.rejected.reward) for p in pairs] == [("expert", 0.1), ("expert", 0.5)]
    both = contrast_result([expert("t/1")], explored, widest.replace(agent_pairs=True)).pairs
    assert [p.chosen.source for p in both] == ["expert", "expert", "sft"]
