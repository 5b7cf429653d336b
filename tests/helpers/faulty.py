"""A suite for tests whose environments break in every way; the task `faulty/1` alone, or all of them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import threading
import time

import numpy as np

from eto.protocols import Step
from eto.types import Message, Task


class Mute(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def dig(depth: int) -> int:
    return dig(depth + 1) + 1


def hang(*_: object) -> None:
    time.sleep(60)


def raising(error: BaseException):
    def act(*_: object) -> None:
        raise error

    return act


def returning_child() -> None:
    if os.fork() == 0:
        return
    os.wait()


def step(**fields) -> Step:
    return Step(**{"observation": "Nothing.", "reward": 0.5, "terminated": False, **fields})


RAISING = {
    "value error": raising(ValueError("cannot read it")),
    "key error": raising(KeyError("there is\nno such thing")),
    "mute": raising(Mute()),
    "exit": raising(SystemExit(4)),
    "cancelled": raising(asyncio.CancelledError()),
    "no memory": raising(MemoryError()),
    "recursion": lambda: dig(0),
}


def late_exit() -> None:
    """End the process while nobody asks it anything."""
    threading.Timer(0.1, os._exit, [6]).start()


DYING = {
    "interrupt": raising(KeyboardInterrupt()),
    "hard exit": lambda: os._exit(5),
    "segfault": lambda: ctypes.string_at(0),
}
"""What ends the whole process: not to be tried in this one."""
WRONG_STEPS = {
    "no step": None,
    "five values": ("Nothing.", 0.5, False, False, {}),
    "a dict": {"observation": "Nothing.", "reward": 0.5, "terminated": False},
    "observation bytes": step(observation=b"Nothing."),
    "observation dict": step(observation={"text": "Nothing."}),
    "observation number": step(observation=7),
    "observation without end": step(observation="x" * 1_000_001),
    "reward nan": step(reward=float("nan")),
    "reward none": step(reward=None),
    "reward text": step(reward="0.5"),
    "reward above": step(reward=1.5),
    "reward below": step(reward=np.float32(-0.5)),
    "two rewards": step(reward=np.zeros(2)),
    "end text": step(terminated="no"),
    "end none": step(terminated=None),
    "success text": step(success="yes"),
    "score nan": step(score=float("nan")),
}
WRONG_RESETS = {
    "reset none": None,
    "reset two values": ("Begin.", {}),
    "reset bytes": b"Begin.",
    "reset without end": "x" * 1_000_001,
}
WRONG_MESSAGES = {
    "no messages": (),
    "messages none": None,
    "messages text": "Begin.",
    "messages dicts": [{"role": "user", "content": "Begin."}],
    "messages answered": (Message("user", "Begin."), Message("assistant", "Yes.")),
    "messages number": (Message("user", 7),),
    "messages role": (Message("robot", "Begin."), Message("user", "Begin.")),
}
WRONG_TURNS = {"turns none": None, "turns zero": 0, "turns text": "5", "turns half": 2.5}
WRONG_PAYLOADS = {
    "set": {"words": {"a", "b"}},
    "number as key": {"rooms": {1: "hall"}},
    "numpy number": {"seed": np.int64(3)},
    "object": {"room": object()},
    "no mapping": None,
}
WRONG_ACTIONS = {"actions text": "win", "actions numbers": [1, 2]}
CALLS = ("reset", "step", "messages", "max_turns", "expert_actions", "environment")
FAULTS = (
    *(f"{call}: {kind}" for call in CALLS for kind in RAISING),
    *(f"{call}: hang" for call in ("reset", "step", "messages")),
    *(*WRONG_STEPS, *WRONG_RESETS, *WRONG_MESSAGES, *WRONG_TURNS, *WRONG_PAYLOADS, *WRONG_ACTIONS),
)
DEADLY = tuple(f"{call}: {kind}" for call in ("reset", "step") for kind in DYING)
ANSWERS = {
    "numpy": step(reward=np.float32(0.5), terminated=np.bool_(False), score=np.int64(3)),
    "numpy array": step(reward=np.array([0.5]), success=np.bool_(False)),
    "numpy text": step(observation=np.str_("Nothing.")),
    "numbers as flags": step(terminated=0, truncated=0),
    "half a pair": step(observation="well done \ud83d"),
}
HARMLESS = {
    "prints": lambda: print("x" * 100_000, flush=True),
    "endless line": lambda: os.write(2, b"x" * 1_000_000),
    "another directory": lambda: os.chdir("/"),
    "signals": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "variables": lambda: os.environ.clear(),
    "random numbers": lambda: (random.seed(0), np.random.seed(0)),
    "a thread": lambda: threading.Thread(target=hang).start(),
    "a child that returns": returning_child,
}


class Faulty:
    """Three tasks; `win` solves each. `where`: the task with the fault, "" for all."""

    name = "faulty"
    splits = ("train", "dev")

    def __init__(self, fault: str = "", where: str = "faulty/1") -> None:
        self.fault, self.where = fault, where

    def tasks(self, split):
        if self.fault == "no tasks":
            return []
        if self.fault == "tasks raise":
            raise KeyError("the list is lost")
        numbers = range(3) if split == "train" else range(3, 5)
        if self.fault == "same id":
            return [Task("faulty/0", "faulty", "any", split) for _ in numbers]
        if self.fault == "number as id":
            return [Task(n, "faulty", "any", split) for n in numbers]
        return [Task(f"faulty/{n}", "faulty", "any", split, self.payload(f"faulty/{n}")) for n in numbers]

    def payload(self, name):
        faulty = self.fault in WRONG_PAYLOADS and self.where in ("", name)
        return WRONG_PAYLOADS[self.fault] if faulty else {"name": name}

    def messages(self, task, observation):
        self.act("messages", task.id)
        if self.fault in WRONG_MESSAGES and self.where in ("", task.id):
            return WRONG_MESSAGES[self.fault]
        return Message("system", "Play."), Message("user", observation)

    def max_turns(self, task):
        self.act("max_turns", task.id)
        return WRONG_TURNS[self.fault] if self.fault in WRONG_TURNS and self.where in ("", task.id) else 4

    def environment(self):
        self.act("environment", "")
        return FaultyEnvironment(self)

    def expert_actions(self, task, environment):
        self.act("expert_actions", task.id)
        if self.fault in WRONG_ACTIONS and self.where in ("", task.id):
            return WRONG_ACTIONS[self.fault]
        return ["look", "win"]

    def spec(self):
        return "faulty:Faulty", {"fault": self.fault, "where": self.where}

    def act(self, call, task):
        """Break in `call`, if that is the fault."""
        place, _, kind = self.fault.partition(": ")
        if place == call and (call == "environment" or self.where in ("", task)):
            (RAISING | DYING | {"hang": hang})[kind]()


class FaultyEnvironment:
    def __init__(self, suite: Faulty) -> None:
        self.suite = suite

    def reset(self, task):
        self.name, self.broken = task.id, self.suite.where in ("", task.id)
        self.suite.act("reset", task.id)
        if self.broken and self.suite.fault in WRONG_RESETS:
            return WRONG_RESETS[self.suite.fault]
        return "Begin."

    def step(self, action):
        self.suite.act("step", self.name)
        fault = self.suite.fault
        if self.broken and fault == "dies late":
            late_exit()
        if self.broken and fault in HARMLESS:
            HARMLESS[fault]()
        if action == "win":
            return Step("You win.", 1.0, True, success=True)
        if self.broken and fault in WRONG_STEPS | ANSWERS:
            return (WRONG_STEPS | ANSWERS)[fault]
        return Step("Nothing.", 0.5, False, success=False)

    def close(self):
        pass
