"""Any environment of ours over the AgentGym protocol (see `eto.environments.remote.agentgym`).

Sessions that nobody has asked for a while are closed, so a client that dies leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from eto.data.texts import whole
from eto.environments.hosting.boundary import checked_environment, user_code
from eto.environments.hosting.host import begin, take_step
from eto.errors import EtoError
from eto.protocols import Environment, TaskSuite
from eto.types import Task

GONE = 404


class NotThere(Exception):
    """A session or task that the client named and that does not exist."""


@dataclass(slots=True)
class _Session:
    environment: Environment
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: float = field(default_factory=time.monotonic)
    observation: str = ""


class ResetBody(BaseModel):
    id: int
    data_idx: int = 0


class StepBody(BaseModel):
    id: int
    action: str


class CloseBody(BaseModel):
    id: int


class Sessions:
    """The open sessions of a server."""

    def __init__(self, suite: TaskSuite, tasks: Sequence[Task], idle_seconds: float) -> None:
        self._suite, self._tasks, self._idle = suite, tasks, idle_seconds
        self._open: dict[int, _Session] = {}
        self._lock = threading.Lock()
        self._created = 0

    def create(self) -> dict[str, int]:
        with user_code("environment"):
            made = self._suite.environment()
        session = _Session(checked_environment(made))
        with self._lock:
            number, self._created = self._created, self._created + 1
            self._open[number] = session
        return {"id": number}

    def reset(self, number: int, data_idx: int) -> dict[str, Any]:
        session = self._find(number)
        if not 0 <= data_idx < len(self._tasks):
            raise NotThere(f"data_idx {data_idx}: there are {len(self._tasks)} tasks")
        with session.lock:
            task = self._tasks[data_idx]
            session.observation = begin(self._suite, session.environment, task).observation
            return {"observation": session.observation, "reward": 0.0, "done": False, "task": task.id}

    def step(self, number: int, action: str) -> dict[str, Any]:
        session = self._find(number)
        with session.lock:
            step = take_step(session.environment, action)
            session.observation = step.observation
            return asdict(step) | {"done": step.terminated or step.truncated}

    def observation(self, number: int) -> str:
        return self._find(number).observation

    def close(self, number: int) -> dict[str, bool]:
        with self._lock:
            session = self._open.pop(number, None)
        if session is not None:
            with session.lock, user_code("close"):
                session.environment.close()
        return {"closed": session is not None}

    def close_idle(self) -> None:
        """Close sessions unasked for longer than allowed."""
        before = time.monotonic() - self._idle
        for number in [number for number, session in list(self._open.items()) if session.asked < before]:
            self._give_up(number)

    def close_all(self) -> None:
        for number in list(self._open):
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        with suppress(EtoError):  # nobody waits for an answer
            self.close(number)

    def __len__(self) -> int:
        return len(self._open)

    def _find(self, number: int) -> _Session:
        session = self._open.get(number)
        if session is None:
            raise NotThere(f"there is no session {number}")
        session.asked = time.monotonic()
        return session


def build_app(suite: TaskSuite, tasks: Sequence[Task], idle_seconds: float = 600.0) -> FastAPI:
    """A web application that serves `tasks` of `suite`; `data_idx` counts through them."""
    sessions = Sessions(suite, tasks, idle_seconds)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(min(idle_seconds, 30.0))
                await asyncio.to_thread(sessions.close_idle)

        sweeping = asyncio.create_task(sweep())
        yield
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
        await asyncio.to_thread(sessions.close_all)

    app = FastAPI(title=f"eto: {suite.name}", lifespan=lifespan)
    app.state.sessions = sessions

    @app.exception_handler(NotThere)
    def unknown(_request: Any, error: NotThere) -> JSONResponse:
        return JSONResponse({"error": str(error)}, GONE)

    @app.exception_handler(EtoError)
    def broken(_request: Any, error: EtoError) -> JSONResponse:
        return JSONResponse({"error": whole(str(error))})

    app.get("/")(lambda: f"This is environment {suite.name}.")
    app.post("/create")(sessions.create)

    @app.get("/observation")
    def observation(id: int) -> str:
        return sessions.observation(id)

    @app.post("/reset")
    def reset(body: ResetBody) -> dict[str, Any]:
        return sessions.reset(body.id, body.data_idx)

    @app.post("/step")
    def step(body: StepBody) -> dict[str, Any]:
        return sessions.step(body.id, body.action)

    @app.post("/close")
    def close(body: CloseBody) -> dict[str, bool]:
        return sessions.close(body.id)

    return app
