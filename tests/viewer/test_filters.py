"""Filter expressions over episodes."""

from __future__ import annotations

import pytest

from eto.errors import InputError
from eto.viewer.filters import parse_filter
from eto.viewer.index import Entry

ENTRIES = [
    Entry(1, "explore/1", "toy/find/1", 0, False, "find", 0.25, False, "out_of_turns", 9, "sft"),
    Entry(2, "evaluate/sft/test", "toy/bring/2", 0, False, "bring a coin", 1.0, True, "terminated", 3, "sft"),
    Entry(3, "explore/1", "toy/find/3", 1, True, "find", 0.0, None, "environment_failed", 0, "eto-1"),
]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", [1, 2, 3]),
        ("reward < 0.5", [1, 3]),
        ("reward<0.5 and turns>5", [1]),
        ("reward >= 0.25 and not kind = find", [2]),
        ("kind = 'bring a coin' or failed = true", [2, 3]),
        ("kind = find and failed = true or success = true", [2, 3]),
        ("task ~ BRING", [2]),
        ("success = false", [1]),
        ("success != true", [1]),
        ("outcome = won", [2]),
        ("outcome = failed OR sample = 0 AND turns != 9", [2, 3]),
        ("not not turns = 9", [1]),
    ],
)
def test_what_a_filter_lets_through(text: str, rows: list[int]) -> None:
    assert [entry.row for entry in ENTRIES if parse_filter(text)(entry)] == rows


def test_a_filter_may_be_long() -> None:
    text = " and ".join(["turns > 3"] * 3000 + [f"{'not ' * 3001} success = true"])
    assert [entry.row for entry in ENTRIES if parse_filter(text)(entry)] == [1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rewart < 1", "no 'rewart', but phase, task"),
        ("reward < much", "compared with a number, not 'much'"),
        ("reward <", "middle of a condition"),
        ("reward < 1 kind = find", "'kind' stands where `and` or `or`"),
        ("success = maybe", "true or false"),
        ("reward is 1", "'is' is no comparison"),
        ("kind = 'find", "cannot be read"),
        ("and", "middle of a condition"),
    ],
)
def test_what_is_no_filter_is_said(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        parse_filter(text)
    assert says in str(error.value) and "for example: reward < 0.5" in str(error.value)
