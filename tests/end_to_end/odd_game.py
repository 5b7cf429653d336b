"""A suite for tests of commands, in a package of its own: `win` wins, and single tasks misbehave."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from eto.protocols import Step
from eto.types import Message, Task


class Odd:
    """broken, wordy, unsolved, unknown: numbers of tasks whose simulator raises, whose prompt is long, whose
    expert does not win, who have none. strict: an action of nobody's expert raises. kill_at: the reset,
    counted in the file `count`, that kills the command with SIGKILL."""

    name = "odd"
    splits = ("train", "dev", "test")

    def __init__(self, broken=(), wordy=(), unsolved=(), unknown=(), strict=False, kill_at=0, count=""):
        self.options = {
            "broken": list(broken),
            "wordy": list(wordy),
            "unsolved": list(unsolved),
            "unknown": list(unknown),
            "strict": strict,
            "kill_at": kill_at,
            "count": count,
        }

    def tasks(self, split):
        return [Task(f"odd/{split}/{n}", "odd", "any", split, {"number": n}) for n in range(4)]

    def messages(self, task, observation):
        long = " look" * 600 * (task.payload["number"] in self.options["wordy"])
        return Message("system", "Play."), Message("user", observation + long)

    def max_turns(self, task):
        return 2

    def environment(self):
        return OddEnvironment(self.options)

    def expert_actions(self, task, environment):
        if task.payload["number"] in self.options["unknown"]:
            return None
        return ["look"] if task.payload["number"] in self.options["unsolved"] else ["look", "win"]

    def spec(self):
        return "odd_game:Odd", self.options


class OddEnvironment:
    def __init__(self, options):
        self.options = options

    def reset(self, task):
        self.number = task.payload["number"]
        if self.options["count"]:
            with Path(self.options["count"]).open("a+") as file:
                file.write("x")
                if file.tell() == self.options["kill_at"]:
                    os.kill(os.getppid(), signal.SIGKILL)
        return f"This is number {self.number}."

    def step(self, action):
        if self.number in self.options["broken"]:
            raise ValueError(f"number {self.number} cannot be played")
        if self.options["strict"] and action not in ("look", "win"):
            raise KeyError("nobody says this")
        won = action == "win"
        return Step("You win." if won else "Nothing.", float(won), won, success=won)

    def close(self):
        pass
