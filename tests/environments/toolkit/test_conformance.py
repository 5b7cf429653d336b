"""The conformance check finds each kind of breach, and nothing on a suite without one."""

from __future__ import annotations

import psutil
import pytest
from counting import Counting

from eto.environments.toolkit import conformance
from eto.environments.toolkit.conformance import check_environment


def test_a_suite_that_keeps_the_contract():
    suite = Counting()
    assert check_environment(suite, suite.tasks("train") + suite.tasks("test")) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("leak", "scores differently"),
        ("falling", "reward falls"),
        ("empty", "the simulator failed"),
        ("eager", "success without an end"),
    ],
)
def test_each_fault_is_found(fault, words):
    suite = Counting(fault)
    problems = check_environment(suite, suite.tasks("test"))
    assert any(words in problem for problem in problems), problems


def test_closing_twice_is_tried():
    problems = check_environment(Counting("close"), Counting().tasks("test"))
    assert any("close fails" in problem and "closed twice" in problem for problem in problems), problems


def test_processes_left_behind_are_found(monkeypatch):
    monkeypatch.setattr(conformance, "CLOSE_SECONDS", 0.2)
    before = psutil.Process().children()
    suite = Counting("orphan", helper=True)
    try:
        problems = check_environment(suite, suite.tasks("test")[:1])
    finally:
        for child in set(psutil.Process().children()) - set(before):
            child.kill()
            child.wait()
    assert "processes are left after the last environment was closed: sleep, sleep" in problems


def test_overlapping_splits_are_found():
    class Overlapping(Counting):
        def tasks(self, split):
            return super().tasks("train")

    problems = check_environment(Overlapping(), [])
    assert any("is in train and again in test" in problem for problem in problems)
