"""A small suite for tests: guess a number. Some tasks misbehave on purpose."""

from __future__ import annotations

import os
import time
from pathlib import Path

from eto.errors import EnvironmentFailure
from eto.protocols import Step
from eto.types import Message, Task

TURNS = 6


class Guessing:
    """The reward is how near the best guess came; the right one ends the episode."""

    name = "guessing"
    splits = ("train",)

    def __init__(self, marks: str = "") -> None:
        self.marks = marks
        self.resets: list[str] = []

    def tasks(self, split):
        return [guess(number, number % 8) for number in range(10)]

    def messages(self, task, observation):
        return Message("system", "Guess the number."), Message("user", observation)

    def max_turns(self, task):
        return TURNS

    def environment(self):
        return GuessingEnvironment(self)

    def expert_actions(self, task, environment):
        return [f"guess {task.payload['number']}"]

    def spec(self):
        return "guessing:Guessing", {"marks": self.marks}


def guess(name: object, number: int, fault: str = "", times: int = 99) -> Task:
    """A task whose simulator goes wrong in the second turn of its first `times` tries."""
    payload = {"number": number, "fault": fault, "times": times}
    return Task(f"guessing/{name}", "guessing", "guess", "train", payload)


class GuessingEnvironment:
    def __init__(self, suite: Guessing) -> None:
        self.suite = suite

    def reset(self, task):
        self.task, self.turn, self.best = task, 0, 0.0
        self.suite.resets.append(task.id)
        if task.payload["fault"] == "at reset":
            raise EnvironmentFailure("it does not start")
        return "Guess a number from 0 to 7."

    def step(self, action):
        self.turn += 1
        if self.turn == 2:
            self.misbehave()
        said = action.removeprefix("guess ").strip()
        if not said.isdecimal():
            return Step("Unknown action.", self.best, False, score=-1.0)
        off = int(said) - self.task.payload["number"]
        self.best = max(self.best, 1 / (1 + abs(off)))
        observation = "well done!" if off == 0 else "too high" if off > 0 else "too low"
        truncated = self.task.payload["fault"] == "truncates" and self.turn == 2
        return Step(observation, self.best, off == 0, truncated, off == 0, 10.0 * self.best)

    def misbehave(self):
        fault = self.task.payload["fault"]
        if fault in ("", "truncates") or self.tries() > self.task.payload["times"]:
            return
        if fault == "fail":
            raise EnvironmentFailure("the simulator says no")
        if fault == "crash":
            os._exit(3)
        if fault == "slow":
            time.sleep(0.2)
        if fault == "hang":
            time.sleep(60)

    def tries(self) -> int:
        """How often this task was tried, counted across processes where there are marks."""
        if not self.suite.marks:
            return self.suite.resets.count(self.task.id)
        with (Path(self.suite.marks) / self.task.id.replace("/", "-")).open("a+") as file:
            file.write("x")
            return file.tell()

    def close(self):
        pass
