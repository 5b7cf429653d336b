"""`python -m eto.environments.worker`: a process that hosts the simulators of one suite.

Requests and replies are JSON, one a line, served in order:

    {"spec": ["module:Class", {...}]}                    -> {"ready": true}
    {"op": "reset", "slot": 3, "task": {...}}            -> {"begun": {"observation": "...", ...}}
    {"op": "step", "slot": 3, "action": "look around"}   -> {"step": {...}}
    {"op": "expert", "slot": 3, "task": {...}}           -> {"episode": {...}}
    {"op": "close", "slot": 3}                           -> {"closed": true}
    {"op": "quit"}                                       -> end of the process

An error is a reply too: {"error": {"kind", "problem", "where", "mend", "died"}}, where kind
names a class of `eto.errors`, or is "bug" (ours) and `problem` a traceback. The process ends, and
its whole process group with it, when its standard input closes or its parent is gone.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import IO, Any

from eto import errors
from eto.environments.contract import Begun
from eto.environments.host import Host, NoExpert, build_suite, expert_trajectory
from eto.environments.java import SimulatorDied
from eto.errors import EnvironmentFailure, EtoError
from eto.records import turn_from_record, turn_to_record
from eto.types import Message, Task, ToolCall, Trajectory

FAREWELL_SECONDS = 3.0
"""Time to close the simulators in before the process group is killed."""


def begun_to_json(begun: Begun) -> dict[str, Any]:
    """The reply to a reset."""
    return {**asdict(begun), "messages": messages_to_json(begun.messages)}


def begun_from_json(data: dict[str, Any]) -> Begun:
    """Inverse of `begun_to_json`."""
    return Begun(**{**data, "messages": messages_from_json(data["messages"])})


def messages_to_json(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages with all their fields."""
    return [asdict(message) for message in messages]


def messages_from_json(data: list[dict[str, Any]]) -> tuple[Message, ...]:
    """Inverse of `messages_to_json`."""
    return tuple(
        Message(**{**each, "tool_calls": tuple(ToolCall(**call) for call in each["tool_calls"])})
        for each in data
    )


def episode_to_json(episode: Trajectory | NoExpert) -> dict[str, Any]:
    """What of an expert episode its receiver does not know: everything but the task."""
    if isinstance(episode, NoExpert):
        return {"none": asdict(episode)}
    return {
        "messages": messages_to_json(episode.messages),
        "turns": [turn_to_record(turn) for turn in episode.turns],
        "reward": episode.reward,
        "score": episode.score,
    }


def episode_from_json(task: Task, data: dict[str, Any]) -> Trajectory | NoExpert:
    """Inverse of `episode_to_json`."""
    if "none" in data:
        return NoExpert(**data["none"])
    messages = messages_from_json(data["messages"])
    turns = [turn_from_record(turn, task.id) for turn in data["turns"]]
    return expert_trajectory(task, messages, turns, data["reward"], data["score"])


def error_to_json(error: BaseException) -> dict[str, Any]:
    """An exception as data; anything but an `EtoError` is a "bug" of ours, with its traceback."""
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
    this_process = os.getpid()
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
        if os.getpid() != this_process:
            os._exit(1)  # a child that a simulator forked and let return: it has no one to answer
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
    if op == "close":
        host.finish(slot)
        return {"closed": True}
    task = Task(**request["task"])
    if op == "reset":
        return {"begun": begun_to_json(host.reset(slot, task))}
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
