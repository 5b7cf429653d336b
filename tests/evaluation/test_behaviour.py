"""Signs of a broken agent, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tiny import trajectory

from eto.evaluation.behaviour import behaviour
from eto.evaluation.table import behaviour_rows
from eto.types import ToolCall


def test_shares_by_hand():
    one = trajectory(("go north", ""), ("go north", ""), ("look", ""))
    other = trajectory(("go north", ""), ("take cup", ""), number=1)
    found = behaviour([one, other])
    assert (found.repeated, found.malformed) == (1 / 5, 0.0), "what another episode did is no repeat"
    assert (found.verb, found.verb_share) == ("go", 3 / 5)
    by_hand = -(3 / 5 * math.log(3 / 5) + 2 / 5 * math.log(1 / 5))
    assert found.action_entropy == pytest.approx(by_hand)


def test_one_action_has_no_entropy():
    assert behaviour([trajectory(*[("wait", "")] * 7)]).figures == {
        "repeated": 6 / 7,
        "malformed": 0.0,
        "verb_share": 1.0,
        "action_entropy": 0.0,
    }


@pytest.mark.parametrize(
    ("action", "ids", "malformed"),
    [
        ("look", (5, 2), False),
        ("look", (5, 9), True),  # the cap on tokens ended it
        ("look", None, False),
        ("  ", None, True),
        ("Thought: nothing", None, False),
        ("Thought: hm\nAction: ", None, True),
        ("go \ufffd", None, True),
        ("go \x07", None, True),
        ("Thought: I see.\n\nAction: search[Kaffee für zwei]", None, False),
    ],
)
def test_malformed_actions(action, ids, malformed):
    episode = trajectory((action, ""))
    episode = replace(episode, turns=(replace(episode.turns[0], action_ids=ids),))
    assert behaviour([episode], stops=(2,)).malformed == float(malformed)


def test_verbs_of_other_forms():
    told = trajectory(("Thought: I search.\nAction: search[red mug]", ""), ("Search[blue mug]", ""))
    assert (behaviour([told]).verb, behaviour([told]).verb_share) == ("search", 1.0)
    called = replace(told, turns=tuple(replace(t, tool_calls=(ToolCall("buy"),)) for t in told.turns))
    assert behaviour([called]).verb == "buy"


def test_episodes_without_actions_tell_nothing():
    assert behaviour([]) is None
    assert behaviour([trajectory()]) is None


def test_behaviour_as_a_table():
    acted = behaviour([trajectory(("go north", ""), ("go north", ""), ("look", ""))])
    _, [row] = behaviour_rows({"sft": acted.figures | {"verb": acted.verb}})
    assert row == [("sft",), ("33.3%",), ("0.0%",), ("go (67%)",), ("0.64",)]
