"""Any environment of ours over the OpenEnv protocol (see `eto.environments.remote.openenv`).

A connection to `/ws` is a session with a simulator of its own, which ends with the connection. The tasks of
a split are told apart by the reset's `seed`, from 0, or by its `task` with a task's id; without either a
session goes through them in turn. What an answer pays is what the action added to the episode's reward, so
that the sum is the reward: rewards may fall, and what is paid be negative.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, ValidationError

from eto.data.texts import whole
from eto.environments.hosting.host import Host
from eto.errors import EtoError
from eto.protocols import TaskSuite
from eto.types import Task


class Action(BaseModel):
    """What an agent says."""

    model_config = ConfigDict(extra="forbid")

    text: str
    metadata: dict[str, Any] = {}


class Observation(BaseModel):
    """What it reads."""

    text: str = ""
    """The environment's answer."""
    done: bool = False
    reward: float | None = None
    """What the action added to the episode's reward."""
    metadata: dict[str, Any] = {}
    """`task`: its id. Of a reset `instruction`: what the agent is told before, the suite's system message. Of
    a step `reward`: the episode's so far, `success`, and `score`, the environment's own."""


class State(BaseModel):
    """Where an episode stands."""

    episode_id: str | None = None
    step_count: int = 0


class _Refused(Exception):
    """A message that cannot be answered: its code, and what is wrong."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.answer = {"type": "error", "data": {"message": message, "code": code, **more}}


class Session:
    """One connection's episodes."""

    def __init__(self, suite: TaskSuite, tasks: Sequence[Task]) -> None:
        self._host, self._suite, self._tasks = Host(suite), suite, tasks
        self._next = 0
        self._task: Task | None = None
        self._episode_id: str | None = None
        self._steps = self._most = 0
        self._reward, self._ended = 0.0, False

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a message. Raises `_Refused`."""
        kind, data = asked.get("type"), asked.get("data", {})
        if not isinstance(data, Mapping):
            raise _Refused(
                "VALIDATION_ERROR", "Invalid message", errors=[_error(["data"], "it is no object")]
            )
        if kind == "reset":
            return self._observation(self._reset(data))
        if kind == "step":
            return self._observation(self._step(data))
        if kind == "state":
            state = State(episode_id=self._episode_id, step_count=self._steps)
            return {"type": "state", "data": state.model_dump()}
        raise _Refused("UNKNOWN_TYPE", f"Unknown message type: {kind}")

    def close(self) -> None:
        """End the simulator."""
        self._host.close()

    def _reset(self, data: Mapping[str, Any]) -> Observation:
        task = self._task_of(data)
        begun = self._host.reset(0, task)
        self._task, self._most = task, begun.max_turns
        self._episode_id = str(data["episode_id"]) if data.get("episode_id") is not None else task.id
        self._steps, self._reward, self._ended = 0, 0.0, False
        told = [message.content for message in begun.messages if message.role == "system"]
        facts = {"task": task.id, "instruction": "\n\n".join(told)}
        return Observation(text=begun.messages[-1].content, metadata=facts)

    def _step(self, data: Mapping[str, Any]) -> Observation:
        if self._task is None:
            raise _Refused("EXECUTION_ERROR", "a step before the first reset")
        if self._ended:
            raise _Refused("EXECUTION_ERROR", "the episode has ended: reset to begin another")
        action = Action.model_validate(dict(data))
        step = self._host.step(0, action.text)
        paid, self._reward = step.reward - self._reward, step.reward
        self._steps += 1
        self._ended = step.terminated or step.truncated or self._steps >= self._most
        told = {"task": self._task.id, "reward": step.reward, "success": step.success, "score": step.score}
        return Observation(text=step.observation, done=self._ended, reward=paid, metadata=told)

    def _task_of(self, data: Mapping[str, Any]) -> Task:
        name, seed = data.get("task"), data.get("seed")
        if name is not None:
            found = next((task for task in self._tasks if task.id == name), None)
            if found is None:
                first = self._tasks[0].id
                raise _Refused("EXECUTION_ERROR", f"there is no task {name!r} here; one is {first!r}")
            return found
        if seed is None:
            seed, self._next = self._next % len(self._tasks), self._next + 1
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            problem = _error(["seed"], "it is no integer of at least 0")
            raise _Refused("VALIDATION_ERROR", "Invalid message", errors=[problem])
        if seed >= len(self._tasks):
            last = len(self._tasks) - 1
            raise _Refused("EXECUTION_ERROR", f"seed {seed}: the tasks have the seeds 0 to {last}")
        return self._tasks[seed]

    def _observation(self, told: Observation) -> dict[str, Any]:
        shown = told.model_dump(exclude={"done", "reward"})
        data = {"observation": shown, "reward": told.reward, "done": told.done}
        return {"type": "observation", "data": data}


def build_openenv_app(
    suite: TaskSuite, tasks: Sequence[Task], idle_seconds: float = 600.0, most_sessions: int = 64
) -> FastAPI:
    """A web application that serves `tasks` of `suite`, to up to so many sessions at a time."""
    app, open_sessions = FastAPI(title=f"eto: {suite.name}"), set[WebSocket]()
    app.state.sessions = open_sessions
    app.get("/health")(lambda: {"status": "healthy"})
    described = {"name": suite.name, "description": f"{suite.name}: {len(tasks)} tasks, by seed"}
    app.get("/metadata")(lambda: described)

    @app.get("/schema")
    def schema() -> dict[str, Any]:
        return {
            "action": Action.model_json_schema(),
            "observation": Observation.model_json_schema(),
            "state": State.model_json_schema(),
        }

    @app.websocket("/ws")
    async def session(socket: WebSocket) -> None:
        await socket.accept()
        if len(open_sessions) >= most_sessions:
            count = {"active_sessions": len(open_sessions), "max_sessions": most_sessions}
            await _send(socket, _Refused("CAPACITY_REACHED", "no room for a session", **count).answer)
            await socket.close()
            return
        open_sessions.add(socket)
        played = Session(suite, tasks)
        try:
            await _serve(socket, played, idle_seconds)
        except (WebSocketDisconnect, TimeoutError):
            pass
        finally:
            open_sessions.discard(socket)
            await asyncio.to_thread(played.close)
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()

    return app


async def _serve(socket: WebSocket, played: Session, idle_seconds: float) -> None:
    """Answer one message after the other, until the client says `close`, goes, or is silent too long."""
    while True:
        text = await asyncio.wait_for(socket.receive_text(), idle_seconds)
        try:
            asked = json.loads(text)
            if not isinstance(asked, dict):
                raise ValueError("it is no object")
        except ValueError as error:
            await _send(socket, _Refused("INVALID_JSON", f"Invalid JSON: {error}").answer)
            continue
        if asked.get("type") == "close":
            return
        try:
            reply = await asyncio.to_thread(played.answer, asked)
        except _Refused as refused:
            reply = refused.answer
        except ValidationError as error:
            faults = [_error([*each["loc"]], each["msg"]) for each in error.errors()]
            reply = _Refused("VALIDATION_ERROR", "Invalid message", errors=faults).answer
        except EtoError as error:
            reply = _Refused("EXECUTION_ERROR", whole(str(error))).answer
        await _send(socket, reply)


async def _send(socket: WebSocket, answer: Mapping[str, Any]) -> None:
    # In ASCII: half a surrogate pair, which an environment may say, has no bytes of its own.
    await socket.send_text(json.dumps(answer))


def _error(place: list[Any], problem: str) -> dict[str, Any]:
    return {"type": "value_error", "loc": place, "msg": problem}
