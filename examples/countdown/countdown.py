"""A complete environment: count from a number down to 0."""

from eto.errors import InputError
from eto.protocols import Step
from eto.types import Message, Task

RANGES = {"train": range(2, 6), "dev": range(6, 8), "test": range(8, 10)}


class Countdown:
    """Count from a number down to 0, one number a turn."""

    name = "countdown"
    splits = tuple(RANGES)

    def tasks(self, split):
        if split not in RANGES:
            raise InputError(f"unknown split {split!r}", where=self.name, hint=", ".join(RANGES))
        return [Task(f"countdown/{n}", self.name, "count", split, {"start": n}) for n in RANGES[split]]

    def messages(self, task, observation):
        return Message("system", "Answer with one number."), Message("user", observation)

    def max_turns(self, task):
        return task.payload["start"] + 5

    def environment(self):
        return CountdownEnvironment()

    def expert_actions(self, task, environment):
        return [str(n) for n in range(task.payload["start"] - 1, -1, -1)]

    def spec(self):
        return f"{__name__}:Countdown", {}


class CountdownEnvironment:
    def reset(self, task):
        self.start = self.current = task.payload["start"]
        return f"Count down from {self.start} to 0."

    def step(self, action):
        if action.strip() == str(self.current - 1):
            self.current -= 1
        done = self.current == 0
        reward = (self.start - self.current) / self.start
        return Step(f"You are at {self.current}.", reward, terminated=done, success=done)

    def close(self):
        pass
