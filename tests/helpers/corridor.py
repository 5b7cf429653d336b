"""A small suite for tests: a corridor in which a wrong move is fatal, and any other answer costs a turn."""

from __future__ import annotations

import random
from time import monotonic_ns

from eto.protocols import Step
from eto.types import Message, Task

SPARE_TURNS = 2
TASKS = 48


class Corridor:
    """Each room names the direction of the next one. Only the end is rewarded; after a wrong move it is out
    of reach, and nothing says so. restless: rooms are worded otherwise at each visit. kinds: task types,
    which differ in name."""

    name = "corridor"
    splits = ("train", "dev", "test")

    def __init__(self, rooms: int = 4, directions: int = 2, restless: bool = False, kinds: int = 1) -> None:
        self.rooms, self.directions, self.restless, self.kinds = rooms, directions, restless, kinds

    def tasks(self, split):
        names = ["walk", *(f"walk-{number}" for number in range(1, self.kinds))]
        return [
            Task(f"corridor/{split}/{n}", "corridor", names[n % self.kinds], split, {"n": n})
            for n in range(TASKS)
        ]

    def messages(self, task, observation):
        return Message("system", "You play a text game."), Message("user", observation)

    def max_turns(self, task):
        return self.rooms + SPARE_TURNS

    def environment(self):
        return CorridorEnvironment(self)

    def expert_actions(self, task, environment):
        return [f"move {direction}" for direction in self.way(task)]

    def way(self, task: Task) -> list[str]:
        """The directions of a task, in their order."""
        known = ("north", "east", "south", "west")[: self.directions]
        return random.Random(task.id).choices(known, k=self.rooms)

    def spec(self):
        names = ("rooms", "directions", "restless", "kinds")
        options = {name: getattr(self, name) for name in names}
        return "corridor:Corridor", options


class CorridorEnvironment:
    def __init__(self, suite: Corridor) -> None:
        self.suite = suite

    def reset(self, task):
        self.way, self.place, self.lost = self.suite.way(task), 0, False
        return self.seen()

    def step(self, action):
        if self.lost:
            return Step("You are in the kitchen.", 0.0, False, success=False)
        if action == f"move {self.way[self.place]}":
            self.place += 1
            if self.place == len(self.way):
                return Step("You take the coin.", 1.0, True, success=True)
            return Step(self.seen(), 0.0, False, success=False)
        if action.startswith("move "):
            self.lost = True
            return Step("You are in the kitchen.", 0.0, False, success=False)
        return Step(f"Unknown action. {self.seen()}", 0.0, False, success=False)

    def seen(self) -> str:
        clock = f" {monotonic_ns()}" if self.suite.restless else ""
        return f"To the {self.way[self.place].capitalize()} you see the pantry.{clock}"

    def close(self):
        pass
