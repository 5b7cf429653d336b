"""A small suite for tests: one whose experts, rewards and answers are as a method cannot use them."""

from __future__ import annotations

from hashlib import sha256
from time import monotonic_ns

from eto.protocols import Step
from eto.types import Message, Task

WAY = ("look around", "take the cup")
"""The expert's actions."""


class Needy:
    """Two turns. experts: whether there are some. earns: `differ` for rewards by what the agent says, 0 to 1;
    `all` or `none` where every own episode earns 1 or 0, `by task` where those of a task earn the same.
    restless: no two visits are answered alike."""

    name = "needy"
    splits = ("train", "dev", "test")

    def __init__(self, experts: bool = True, earns: str = "differ", restless: bool = False) -> None:
        self.experts, self.earns, self.restless = experts, earns, restless

    def tasks(self, split):
        return [Task(f"needy/{split}/{n}", "needy", "any", split, {"n": n}) for n in range(4)]

    def messages(self, task, observation):
        return (Message("user", observation),)

    def max_turns(self, task):
        return 2

    def environment(self):
        return NeedyEnvironment(self)

    def expert_actions(self, task, environment):
        return WAY if self.experts else None

    def spec(self):
        options = {"experts": self.experts, "earns": self.earns, "restless": self.restless}
        return "needy:Needy", options


class NeedyEnvironment:
    def __init__(self, suite: Needy) -> None:
        self.suite = suite

    def reset(self, task):
        self.said, self.number = [], task.payload["n"]
        return f"You are in the kitchen {task.payload['n']}."

    def step(self, action):
        self.said.append(action)
        ended, reward = len(self.said) == len(WAY), self.worth()
        heard = f"The {monotonic_ns()}" if self.suite.restless else "The cup is on the table."
        return Step(heard, reward * ended, ended, success=bool(ended and reward == 1))

    def worth(self) -> float:
        if self.suite.earns == "all" or (tuple(self.said) == WAY and self.suite.earns != "by task"):
            return 1.0
        if self.suite.earns == "none":
            return 0.0
        if self.suite.earns == "by task":
            return self.number % 3 / 2
        return sha256(" ".join(self.said).encode()).digest()[0] % 3 / 2

    def close(self):
        pass
