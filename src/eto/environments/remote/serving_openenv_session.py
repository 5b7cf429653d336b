"""A connection to an OpenEnv server of ours: what is played over it, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

from fastapi import WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ValidationError

from eto.data.texts import brief
from eto.environments.remote import serving_openenv_messages as messages
from eto.environments.remote.serving import ENDED, Full, Session, Sessions
from eto.environments.remote.serving_openenv_messages import (
    Action,
    FirstObservation,
    Observation,
    Refusal,
    Reset,
    State,
    Tasks,
    refused,
)
from eto.errors import EtoError

NORMAL, GOING_AWAY = 1000, 1001
"""WebSocket close codes, RFC 6455."""


class Asked(BaseModel, extra="forbid"):
    type: str
    data: dict[str, Any] = {}


class Player:
    """The episodes of one session, one after another."""

    def __init__(self, session: Session, tasks: Tasks) -> None:
        self._session, self._tasks = session, tasks
        self._state = State()
        self._max_turns = 0
        self._ended: dict[str, Any] = {}

    def answer(self, text: str) -> dict[str, Any] | None:
        """The reply to a message; None to one that closes the session."""
        try:
            asked = json.loads(text)
        except (ValueError, RecursionError) as error:
            return refused("INVALID_JSON", f"Invalid JSON: {error}")
        kind = asked.get("type") if isinstance(asked, dict) else None
        if kind not in ("reset", "step", "state", "close"):
            what = f"Unknown message type: {brief(kind)}; there are reset, step, state and close"
            return refused("UNKNOWN_TYPE", what)
        try:
            data = Asked.model_validate(asked).data
            match kind:
                case "reset":
                    return {"type": "observation", "data": self.reset(Reset.model_validate(data))}
                case "step":
                    return {"type": "observation", "data": self.step(Action.model_validate(data))}
                case "state":
                    return {"type": "state", "data": self._state.model_dump()}
            return None
        except (ValidationError, Refusal) as error:
            return messages.invalid(error)
        except EtoError as error:
            return refused("EXECUTION_ERROR", str(error))

    def reset(self, wanted: Reset) -> dict[str, Any]:
        """Begin an episode. Raises `Refusal` for a task that is not there, and `EnvironmentFailure`."""
        number, task = self._tasks.choose(wanted)
        self._state = State()
        begun = self._session.reset(task)
        self._max_turns = begun.max_turns
        self._state = State(episode_id=wanted.episode_id or str(uuid4()), task_id=task.id)
        told = self._tasks.described(number) | {"max_turns": begun.max_turns}
        prompt = messages.prompt(begun.messages)
        return messages.observed(FirstObservation(text=begun.observation, messages=prompt, metadata=told))

    def step(self, action: Action) -> dict[str, Any]:
        """Raises `EnvironmentFailure`, also where no episode is under way."""
        if self._state.done:
            return messages.observed(Observation(text=ENDED, done=True, metadata=self._ended))
        step = self._session.step(action.message)
        turns = self._state.step_count + 1
        limited = step.truncated or (turns >= self._max_turns and not step.terminated)
        done = step.terminated or limited
        self._state = self._state.model_copy(
            update={"step_count": turns, "reward": step.reward, "done": done}
        )
        told = {
            "task_id": self._state.task_id,
            "success": step.success,
            "score": step.score,
            "reward": step.reward,
            "terminated": step.terminated,
            "truncated": limited,
            "afresh": step.afresh,
        }
        self._ended = told
        paid = step.reward if done else None
        return messages.observed(Observation(text=step.observation, reward=paid, done=done, metadata=told))


async def play(socket: WebSocket, sessions: Sessions, tasks: Tasks, idle_seconds: float) -> None:
    """Answer a connection until it ends or has been idle too long, and close its session."""
    thread = ThreadPoolExecutor(1)  # a simulator may be bound to the thread that made it
    work = partial(asyncio.get_running_loop().run_in_executor, thread)
    number = None
    try:
        number = await work(sessions.create)
        player = Player(sessions.find(number), tasks)
        while (text := await _received(socket, idle_seconds)) is not None:
            reply = await work(player.answer, text)
            if reply is None:
                break
            await _send(socket, reply)
        await _hang_up(socket, f"idle for {idle_seconds:g} s" if text is None else "")
    except Full as full:
        counts = {"active_sessions": full.limit, "max_sessions": full.limit}
        await _hang_up(socket, last=refused("CAPACITY_REACHED", str(full), **counts))
    except EtoError as error:
        await _hang_up(socket, last=refused("FACTORY_ERROR", str(error)))
    except WebSocketDisconnect:
        pass
    finally:
        if number is not None:
            await asyncio.shield(work(sessions.give_up, number))
        thread.shutdown(wait=False)


async def _received(socket: WebSocket, idle_seconds: float) -> str | None:
    """The next message, whether it came as text or as bytes; None where none comes in time.

    Raises `WebSocketDisconnect`.
    """
    try:
        message = await asyncio.wait_for(socket.receive(), idle_seconds)
    except TimeoutError:
        return None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    text = message.get("text")
    return text if text is not None else message["bytes"].decode("utf-8", "replace")


async def _send(socket: WebSocket, reply: Mapping[str, Any]) -> None:
    await socket.send_text(json.dumps(reply))  # escapes all but ASCII, so that any text can be sent


async def _hang_up(socket: WebSocket, idle: str = "", last: Mapping[str, Any] | None = None) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # the client was faster
        if last is not None:
            await _send(socket, last)
        await socket.close(GOING_AWAY if idle else NORMAL, idle)
