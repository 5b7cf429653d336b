"""Groups of turns as pairs, and the order in which they are learnt, worked out by hand."""

from __future__ import annotations

from test_monte_carlo import EXPERT, episode

from eto.credit.groups import GroupPair, curriculum, distinct_groups, group_pairs
from eto.credit.monte_carlo import Branch, Valued, pair_of

LONG = episode("abcdefgh", 1.0)


def test_a_group_counts_once_and_not_as_the_experts():
    same, one, again, other = (
        Branch(LONG, 3, episode(actions, 0.0)) for actions in ("abcdefxx", "abcdexx", "abcdeyy", "abcxx")
    )
    twice = Branch(LONG, 3, episode("abcdexzz", 1.0))
    assert distinct_groups([same, one, again, twice, other], 3) == [one, again, other]
    assert distinct_groups([same, one, again, other], 2) == [other], "def and dex begin alike"
    elsewhere = Branch(LONG, 0, episode("xbc", 0.0))
    assert distinct_groups([one, elsewhere], 3) == [one, elsewhere]


def test_a_group_is_paired_where_the_expert_goes_on_better():
    branch = Branch(LONG, 3, episode("abcxyzz", 0.0))
    [made] = group_pairs([Valued(branch, 0.9, 0.2)], 3, threshold=0.3, least_value=0.8)
    assert made.pair.chosen.actions == tuple("abcdef") and made.pair.rejected.actions == tuple("abcxyz")
    assert [turn.loss for turn in made.pair.chosen.turns] == [False] * 3 + [True] * 3
    assert (made.length, round(made.gap, 6), made.pair.kind) == (3, 0.7, "group")
    for expert_value, value in ((0.9, 0.65), (0.7, 0.0), (0.2, 0.9)):
        assert group_pairs([Valued(branch, expert_value, value)], 3, 0.3, 0.8) == []
    better = Branch(episode("abcd", 0.5), 1, episode("axyz", 1.0))
    assert group_pairs([Valued(better, 0.9, 0.2)], 3, 0.3, 0.8) == []


def test_the_last_group_may_be_short_and_its_partner_may_end_early():
    branch = Branch(EXPERT, 3, episode("abcx", 0.0))
    [made] = group_pairs([Valued(branch, 1.0, 0.0)], 3, 0.3)
    assert made.pair.chosen.actions == ("a", "b", "c", "d") and made.length == 1


def graded_pair(length: int, gap: float) -> GroupPair:
    return GroupPair(pair_of(Branch(EXPERT, 3, episode("abcx", 0.0)), True, "group"), length, gap)


def test_the_curriculum_goes_from_short_and_clear_to_all():
    graded = {
        "short clear": graded_pair(3, 0.7),
        "short middling": graded_pair(1, 0.69),
        "middling clear": graded_pair(4, 0.9),
        "short close": graded_pair(2, 0.39),
        "middling middling": graded_pair(6, 0.4),
        "long clear": graded_pair(7, 1.0),
    }
    phases = [{id(each) for each in phase} for phase in curriculum(list(graded.values()))]
    names = [{name for name, each in graded.items() if id(each.pair) in phase} for phase in phases]
    assert names[0] == {"short clear"}
    assert names[1] == {"short clear", "short middling", "middling clear"}
    assert names[2] == set(graded)
    assert curriculum([]) == [[], [], []]
