"""`python -m eto.environments.worker`: a process that hosts the simulators of one suite.

Requests and replies are JSON, one a line, served in order:

    {"spec": ["module:Class", {...}]}                    -> {"ready": true}
    {"op": "reset", "slot": 3, "task": {...}}            -> {"observation": "..."}
    {"op": "step", "slot": 3, "action": "look around"}   -> {"step": {...}}
    {"op": "expert", "slot": 3, "task": {...}}           -> {"episode": {...} or null}
    {"op": "quit"}                                       -> end of the process

An error is a reply too: {"error": {"kind", "problem", "where", "mend", "died"}}, where kind
names a class of `eto.errors`, or is "bug" and `problem` a traceback. The process ends, and
its whole process group with it, when its standard input closes or its parent is gone.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from typing import IO, Any

from eto import errors
from eto.environments.java import SimulatorDied
from eto.errors import EnvironmentFailure, EtoError, InputError
from eto.protocols import Environment, Step, TaskSuite
from eto.types import Message, StopReason, Task, Trajectory, Turn

FAREWELL_SECONDS = 3.0
"""Time to close the simulators in before the process group is killed."""


def build_suite(spec: tuple[str, dict[str, Any]] | list[Any]) -> TaskSuite:
    """The suite that `TaskSuite.spec` describes. Raises `InputError` where it cannot be imported."""
    name, options = spec
    module, _, attribute = name.partition(":")
    try:
        suite: Any = import_module(module)
        for part in attribute.split("."):
            suite = getattr(suite, part)
    except (ImportError, AttributeError) as error:
        mend = "define the suite at the top of an importable module, or use workers=0"
        raise InputError(f"a worker process cannot import it: {error}", where=name, mend=mend) from error
    return suite(**options)


class Host:
    """The simulators of a suite by slot, made when first needed."""

    def __init__(self, suite: TaskSuite) -> None:
        self._suite = suite
        self._environments: dict[int, Environment] = {}

    def reset(self, slot: int, task: Task) -> str:
        with self._environment(slot) as environment:
            observation = environment.reset(task)
            if not isinstance(observation, str):
                problem = f"reset returned {type(observation).__name__}, not text"
                raise EnvironmentFailure(problem, where=task.id)
            return observation

    def step(self, slot: int, action: str) -> Step:
        with self._environment(slot) as environment:
            return check_step(environment.step(action))

    def expert(self, slot: int, task: Task) -> Trajectory | None:
        with self._environment(slot) as environment:
            return verified_expert(self._suite, environment, task)

    def close(self) -> None:
        environments, self._environments = list(self._environments.values()), {}
        for environment in environments:
            environment.close()

    @contextmanager
    def _environment(self, slot: int) -> Iterator[Environment]:
        """The simulator of a slot; given up after a failure, for its state is unknown."""
        if slot not in self._environments:
            self._environments[slot] = self._suite.environment()
        try:
            yield self._environments[slot]
        except EnvironmentFailure:
            with suppress(EnvironmentFailure):
                self._environments.pop(slot).close()
            raise


def check_step(step: Step) -> Step:
    """`step` itself. Raises `EnvironmentFailure` where it breaks the contract."""
    if not isinstance(step.observation, str):
        raise EnvironmentFailure(f"an observation is {type(step.observation).__name__}, not text")
    if not (math.isfinite(step.reward) and 0.0 <= step.reward <= 1.0):
        raise EnvironmentFailure(f"a reward is {step.reward}, not within 0 and 1")
    return step


def verified_expert(suite: TaskSuite, environment: Environment, task: Task) -> Trajectory | None:
    """The expert's actions replayed from a fresh reset, up to the end of the episode.

    None where the suite has no expert for `task` or where the replay does not succeed.
    Observations and rewards are those of the replay. Raises `EnvironmentFailure`.
    """
    actions = suite.expert_actions(task, environment)
    if not actions:
        return None
    messages = suite.messages(task, environment.reset(task))
    turns: list[Turn] = []
    for action in actions:
        step = check_step(environment.step(action))
        turns.append(Turn(action, step.observation, step.reward))
        if step.terminated or step.truncated:
            break
    if not (step.terminated and step.success):
        return None
    return expert_trajectory(task, messages, turns, step.reward, step.score)


def expert_trajectory(
    task: Task, messages: tuple[Message, ...], turns: list[Turn], reward: float, score: float | None
) -> Trajectory:
    """A successful expert episode."""
    return Trajectory(
        task, tuple(messages), tuple(turns), reward, True, StopReason.TERMINATED, "expert", score=score
    )


def episode_to_json(episode: Trajectory | None) -> dict[str, Any] | None:
    """What of an expert episode its receiver does not know: everything but the task."""
    if episode is None:
        return None
    return {
        "messages": [[message.role, message.content] for message in episode.messages],
        "turns": [[turn.action, turn.observation, turn.reward] for turn in episode.turns],
        "reward": episode.reward,
        "score": episode.score,
    }


def episode_from_json(task: Task, data: dict[str, Any] | None) -> Trajectory | None:
    """Inverse of `episode_to_json`."""
    if data is None:
        return None
    messages = tuple(Message(role, content) for role, content in data["messages"])
    turns = [Turn(*turn) for turn in data["turns"]]
    return expert_trajectory(task, messages, turns, data["reward"], data["score"])


def error_to_json(error: BaseException) -> dict[str, Any]:
    """An exception as data; anything but an `EtoError` becomes a "bug" with its traceback."""
    if not isinstance(error, EtoError):
        text = "".join(traceback.format_exception(error))
        return {"kind": "bug", "problem": text, "where": "", "mend": "", "died": False}
    kind = "EnvironmentFailure" if isinstance(error, EnvironmentFailure) else type(error).__name__
    died = isinstance(error, SimulatorDied)
    return {"kind": kind, "problem": error.problem, "where": error.where, "mend": error.mend, "died": died}


def error_from_json(data: dict[str, Any]) -> Exception:
    """Inverse of `error_to_json`; a bug becomes a `RuntimeError` carrying the traceback."""
    kind = getattr(errors, data["kind"], None)
    if kind is None:
        return RuntimeError(f"in an environment's worker process:\n{data['problem']}")
    return kind(data["problem"], where=data["where"], mend=data["mend"])


def main() -> None:
    requests, replies = _take_standard_streams()
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    host: Host | None = None
    while (request := inbox.get()).get("op") != "quit":
        try:
            if "spec" in request:
                host = Host(build_suite(request["spec"]))
                reply: dict[str, Any] = {"ready": True}
            else:
                assert host is not None, "the first request names the suite"
                reply = _serve(host, request)
        except Exception as error:  # becomes data: the parent decides what it costs
            reply = {"error": error_to_json(error)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    threading.Thread(target=_kill_group_after, args=(FAREWELL_SECONDS,), daemon=True).start()
    if host is not None:
        host.close()
    _kill_group_after(0)


def _serve(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    op, slot = request["op"], request["slot"]
    if op == "step":
        return {"step": asdict(host.step(slot, request["action"]))}
    task = Task(**request["task"])
    if op == "reset":
        return {"observation": host.reset(slot, task)}
    return {"episode": episode_to_json(host.expert(slot, task))}


def _take_standard_streams() -> tuple[IO[str], IO[str]]:
    """Private copies of fds 0 and 1, so that a simulator's prints cannot spoil the protocol."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _read(requests: IO[str], inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in requests:
        inbox.put(json.loads(line))
    inbox.put({"op": "quit"})
    _kill_group_after(FAREWELL_SECONDS)  # the main thread may hang in a simulator


def _watch_parent(parent: int) -> None:
    """Standard input stays open if another child of a killed parent inherited it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    _kill_group_after(0)


def _kill_group_after(seconds: float) -> None:
    time.sleep(seconds)
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():  # started as a group of its own: simulators included
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
