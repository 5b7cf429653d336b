"""Any environment of ours over the AgentGym protocol (see `eto.environments.remote.agentgym`).

Sessions that nobody has asked for a while are closed, so a client that dies leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from eto.data.texts import counted, whole
from eto.environments.remote.serving import NotThere, Sessions, faults, lifespan
from eto.errors import EtoError
from eto.protocols import TaskSuite
from eto.types import Task

GONE, INVALID = 404, 422


class ResetBody(BaseModel):
    id: int
    data_idx: int = 0


class StepBody(BaseModel):
    id: int
    action: str


class CloseBody(BaseModel):
    id: int


def build_app(suite: TaskSuite, tasks: Sequence[Task], idle_seconds: float = 600.0) -> FastAPI:
    """A web application that serves `tasks` of `suite`; `data_idx` counts through them."""
    sessions = Sessions(suite)
    app = FastAPI(title=f"eto: {suite.name}", lifespan=lifespan(sessions, idle_seconds))
    app.state.sessions = sessions

    @app.exception_handler(NotThere)
    def unknown(_request: Any, error: NotThere) -> JSONResponse:
        return JSONResponse({"error": str(error)}, GONE)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Any, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": faults(error.errors())}, INVALID)

    @app.exception_handler(EtoError)
    def broken(_request: Any, error: EtoError) -> JSONResponse:
        return JSONResponse({"error": whole(str(error))})

    app.get("/")(lambda: f"This is environment {suite.name}.")

    @app.post("/create")
    def create() -> dict[str, int]:
        return {"id": sessions.create()}

    @app.get("/observation")
    def observation(id: int) -> str:
        return sessions.find(id).observation

    @app.post("/reset")
    def reset(body: ResetBody) -> dict[str, Any]:
        session = sessions.find(body.id)
        if not 0 <= body.data_idx < len(tasks):
            raise NotThere(f"data_idx {body.data_idx}: the server has {counted(len(tasks), 'task')}")
        task = tasks[body.data_idx]
        observation = session.reset(task).observation
        return {"observation": observation, "reward": 0.0, "done": False, "task": task.id}

    @app.post("/step")
    def step(body: StepBody) -> dict[str, Any]:
        step = sessions.find(body.id).step(whole(body.action))
        return asdict(step) | {"done": step.terminated or step.truncated}

    @app.post("/close")
    def close(body: CloseBody) -> dict[str, bool]:
        return {"closed": sessions.close(body.id)}

    return app
