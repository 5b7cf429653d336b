"""What suites and environments have in common: options, splits, the order of calls."""

from __future__ import annotations

import pytest

from eto.environments.hosting.host import build_suite
from eto.environments.toolkit.suite import EpisodeEnvironment, NumberedSuite, Suite, options_of
from eto.errors import InputError
from eto.protocols import Step
from eto.types import Task


class Letters(Suite):
    name = "letters"

    def __init__(self, word: str, count: int = 3) -> None:
        self._options = options_of(locals())
        self.doubled = 2 * count


class Numbers(NumberedSuite):
    name, number = "numbers", "seed"

    def __init__(self, train, dev, test, instruction="Go.", max_turns=5, rule="last") -> None:
        self._check_options(options_of(locals()))


class Countdown(EpisodeEnvironment):
    def reset(self, task: Task) -> str:
        self._left = 2
        self._last = Step("two left", 0.0, terminated=False)
        return "two left"

    def _act(self, action: str) -> Step:
        if action == "raise":
            raise ValueError
        self._left -= 1
        return Step(f"{self._left} left", 1.0 - self._left / 2, terminated=self._left == 0)


TASK = Task("t", "e", "k", "train")


def test_a_suite_is_made_again_from_its_options() -> None:
    spec = Letters("abc").spec()
    assert spec == (f"{__name__}:Letters", {"word": "abc", "count": 3})
    assert build_suite(spec).doubled == 6


def test_numbered_tasks() -> None:
    suite = Numbers([0, 2], [2, 3], [3, 3])
    assert [task.payload for task in suite.tasks("train")] == [{"seed": 0}, {"seed": 1}]
    assert [message.content for message in suite.messages(TASK, "here")] == ["Go.", "here"]
    assert (suite.max_turns(TASK), suite.expert_actions(TASK, None)) == (5, None)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Numbers([0, 2], [1, 3], [3, 3]), "overlaps with train"),
        (lambda: Numbers([0, 2], [2, 3], [3, 3], rule="first"), "numbers.rule: unknown choice 'first'"),
        (lambda: Numbers([0, 2], [2, 3], [3, 3]).tasks("valid"), "unknown split 'valid'"),
        (lambda: Letters("abc")._check_split("valid"), "letters: unknown split 'valid'"),
    ],
)
def test_bad_options_and_splits_are_named(call, told: str) -> None:
    with pytest.raises(InputError, match=told):
        call()


def test_a_step_needs_a_reset_and_the_end_stays_the_end() -> None:
    environment = Countdown()
    with pytest.raises(RuntimeError, match="step before reset"):
        environment.step("down")
    environment.reset(TASK)
    with pytest.raises(ValueError):
        environment.step("raise")
    assert environment.step("down").observation == "1 left"
    last = environment.step("down")
    again = environment.step("down")
    assert (again.observation, again.reward, again.terminated) == ("The episode has ended.", 1.0, True)
    assert last.observation == "0 left"
    environment.reset(TASK)
    assert environment.step("down").reward == 0.5
