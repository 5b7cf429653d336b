"""Gymnasium environments that speak text."""

from __future__ import annotations

import re

import gymnasium
import pytest
from playing import how

from eto.engines.scripted import scripted_actor
from eto.environments import load_suite
from eto.environments.toolkit.conformance import check_environment
from eto.errors import InputError
from eto.rollout.rollouts import rollouts


class Guess(gymnasium.Env):
    """Guess a number from 0 to 9 in five tries."""

    observation_space = gymnasium.spaces.Text(100)
    action_space = gymnasium.spaces.Text(10_000)

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.tries = int(self.np_random.integers(10)), 0
        return "Guess a number from 0 to 9.", {}

    def step(self, action):
        self.tries += 1
        right = action.strip() == str(self.number)
        told = "Right." if right else "Wrong."
        return (3 if self.broken else told), float(right), right, self.tries == 5, {"won": right}


gymnasium.register("Guess-v0", Guess)
RANGES = {"train": [0, 20], "dev": [20, 25], "test": [25, 30]}


def test_it_conforms_and_ends():
    suite = load_suite("gymnasium", id="test_gymnasium:Guess-v0", success="won", **RANGES)
    tasks = suite.tasks("train")
    assert check_environment(suite, tasks[:3]) == []
    environment = suite.environment()
    environment.reset(tasks[0])
    steps = []
    while not (steps and (steps[-1].terminated or steps[-1].truncated)):
        steps.append(environment.step(str(len(steps))))
    last = steps[-1]
    assert last.success == last.terminated == (last.reward == 1.0)
    assert environment.step("1").observation == "The episode has ended."
    environment.close()


def test_running_out_of_tries_is_no_end_of_the_task():
    suite = load_suite("gymnasium", id="Guess-v0", **RANGES)
    environment = suite.environment()
    environment.reset(suite.tasks("dev")[0])
    steps = [environment.step("none") for _ in range(5)]
    assert [step.truncated for step in steps] == [False] * 4 + [True]
    assert not any(step.terminated or step.success for step in steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"id": "Nothing-v0"}, "cannot be made"),
        ({"id": "no_such_module:Guess-v0"}, "cannot be made"),
        ({"id": "CartPole-v1"}, "not text"),
        ({"id": "Guess-v0", "kwargs": {"size": 3}}, "cannot be made"),
        ({"id": "Guess-v0", "rule": "mean"}, "unknown choice"),
        ({"id": "Guess-v0", "dev": [19, 21]}, "overlaps with train"),
    ],
)
def test_mistakes_are_told(options, words):
    with pytest.raises(InputError, match=words):
        load_suite("gymnasium", **(RANGES | options))


class Shouting(Guess):
    """Raises for an action that is not a number."""

    def step(self, action):
        return super().step(str(int(action)))


gymnasium.register("Shouting-v0", Shouting)


def test_an_action_it_cannot_read_fails_the_episode_or_is_told_to_the_agent():
    says = ["I guess 3", "3"]
    policy = scripted_actor(lambda said: says[min(sum(m.role == "assistant" for m in said), 1)])
    settings = how(workers=1, slots=2)
    options = {"id": "test_gymnasium:Shouting-v0", "max_turns": 4, **RANGES}
    suite = load_suite("gymnasium", **options)
    for trajectory in rollouts(policy, suite, suite.tasks("train")[:2], **settings):
        assert trajectory.failed
        assert re.search(r"test_gymnasium.py:\d+: ValueError: invalid literal", trajectory.detail)
    problems = check_environment(suite, suite.tasks("train")[:1])
    assert any("ValueError" in problem and "hint: answer an action" in problem for problem in problems)

    told = load_suite("gymnasium", raises="tell", **options)
    for trajectory in rollouts(policy, told, told.tasks("train")[:2], **settings):
        assert not trajectory.failed and len(trajectory.turns) > 1
        first = trajectory.turns[0]
        assert first.observation.startswith("The action cannot be read: invalid literal") and not first.reward
    assert check_environment(told, told.tasks("train")[:1]) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("ok", 0.0, False, False), "tuple, not five values"),
        (None, "NoneType, not five values"),
        (("ok", None, False, False, {}), "a reward is None"),
        (("ok", float("nan"), False, False, {}), "a reward is nan"),
        (("ok", 0.0, "no", False, {}), "terminated is str"),
        ((b"ok", 0.0, False, False, {}), "bytes, not text"),
    ],
)
def test_a_step_that_is_none_of_gymnasium_s(answer, words, monkeypatch):
    monkeypatch.setattr(Guess, "step", lambda self, action: answer)
    suite = load_suite("gymnasium", id="Guess-v0", **RANGES)
    [played] = rollouts(
        scripted_actor(lambda _: "1"),
        suite,
        suite.tasks("train")[:1],
        **how(workers=0),
    )
    assert played.failed and words in played.detail
