"""A small suite for tests: count to a target. Some actions misbehave on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from eto.errors import EnvironmentFailure
from eto.protocols import Step
from eto.types import Message, Task

HOARD: list[bytes] = []
"""What a worker process never gives back."""


class Counting:
    name = "counting"
    splits = ("train", "test")

    def __init__(self, fault: str = "", helper: bool = False, mark: str = "") -> None:
        self.fault, self.helper, self.mark = fault, helper, mark

    def tasks(self, split):
        first = {"train": 1, "test": 4}[split]
        return [
            Task(f"counting/{n}", "counting", "up", split, {"target": n}) for n in range(first, first + 3)
        ]

    def messages(self, task, observation):
        return Message("system", "Count."), Message("user", observation)

    def max_turns(self, task):
        return 10

    def environment(self):
        return CountingEnvironment(self)

    def expert_actions(self, task, environment):
        if self.mark and not Path(self.mark).exists():
            Path(self.mark).touch()
            os._exit(7)
        return None if task.payload["target"] == 2 else ["up"] * task.payload["target"] + ["beyond the end"]

    def spec(self):
        return "counting:Counting", {"fault": self.fault, "helper": self.helper, "mark": self.mark}


class CountingEnvironment:
    def __init__(self, suite: Counting) -> None:
        self.suite, self.count, self.child, self.closed = suite, 0, None, 0
        if suite.helper:
            self.child = subprocess.Popen(["sleep", "600"])

    def reset(self, task):
        self.target = task.payload["target"]
        if self.suite.fault != "leak":
            self.count = 0
        return f"Count to {self.target}. helper {self.child.pid if self.child else None}"

    def step(self, action):
        if action.startswith("sleep"):
            time.sleep(float(action.split()[1]))
        elif action.startswith("hoard"):  # megabytes, and where: here, or in a process of its own
            _, size, where = action.split()
            if where == "here":
                HOARD.append(b"x" * (int(size) << 20))
            else:
                code = f"x = b'x' * ({size} << 20); import time; time.sleep(600)"
                subprocess.Popen([sys.executable, "-c", code])
        elif action == "crash":
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        elif action == "bug":
            raise KeyError("a bug in the environment")
        elif action == "fail":
            raise EnvironmentFailure("the simulator says no")
        elif action == "shout":
            os.write(1, b'{"not": "a reply"}\n')
        elif action == "up":
            self.count += 1
        elif not action.strip() and self.suite.fault == "empty":
            raise EnvironmentFailure("no action")
        reward = min(self.count / self.target, 1.0)
        if self.suite.fault == "falling" and self.count > 1:
            reward = 0.0
        if action == "too much":
            reward = 1.5
        done = self.count >= self.target
        return Step(f"at {self.count}", reward, done, False, done or self.suite.fault == "eager", reward)

    def close(self):
        self.closed += 1
        if self.suite.fault == "close" and self.closed > 1:
            raise RuntimeError("closed twice")
        if self.child is not None and self.suite.fault != "orphan":
            self.child.kill()
            self.child.wait()
