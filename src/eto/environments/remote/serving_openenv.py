"""Any environment of ours over the OpenEnv protocol, as openenv-core 0.10 speaks it.

A connection to `/ws` is a session with an environment of its own, which ends with the connection
(see `eto.environments.remote.openenv`). `GET /health`, `/schema`, `/metadata` and the routes of tasks tell
what there is. `POST /reset` and `/step` keep nothing from one request to the next.

The reward is paid with the step that ends the episode and nowhere else: the last reward, the best and their
sum are all the episode's. An episode ends with its task, at the environment's own limit, or at the suite's
cap of turns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import websockets  # noqa: F401 - uvicorn answers `/ws` only where it is installed
from fastapi import FastAPI, HTTPException, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from eto.data.texts import brief, whole
from eto.environments.remote import serving_openenv_messages as messages
from eto.environments.remote.serving import Full, Sessions, faults, lifespan
from eto.environments.remote.serving_openenv_messages import Action, Refusal, Reset, State, Tasks
from eto.environments.remote.serving_openenv_session import Player, play
from eto.errors import EtoError
from eto.protocols import TaskSuite
from eto.types import Task

SESSIONS = 64
"""At a time, where the server is not told otherwise."""
METHOD_NOT_FOUND = -32601
"""JSON-RPC 2.0, section 5.1."""
NOT_FOUND, CONFLICT, INVALID, FAILED, BUSY = 404, 409, 422, 500, 503


class StepBody(BaseModel, extra="allow"):
    action: Action


class Of(BaseModel):
    split: messages.Text


class OfIndex(Of):
    index: int


class OfRange(Of):
    start: int | None = None
    stop: int | None = None


def build_app(
    suite: TaskSuite,
    tasks: Sequence[Task],
    split: str,
    idle_seconds: float = 600.0,
    limit: int = SESSIONS,
) -> FastAPI:
    """A web application that serves `tasks` of `suite`, at most `limit` sessions at a time."""
    sessions, known = Sessions(suite, limit), Tasks(tasks, split)
    app = FastAPI(title=f"eto: {suite.name}", lifespan=lifespan(sessions, None))
    app.state.sessions = sessions
    app.get("/health")(lambda: {"status": "healthy"})
    app.get("/schema")(messages.schemas)
    app.get("/metadata")(lambda: messages.about(suite, known))
    app.get("/state")(lambda: State().model_dump())

    @app.post("/reset")
    def reset(body: Reset | None = None) -> dict[str, Any]:
        number = sessions.create()
        try:
            return Player(sessions.find(number), known).reset(body or Reset())
        finally:
            sessions.give_up(number)

    @app.post("/step")
    def step(body: StepBody) -> dict[str, Any]:
        what = "no episode is under way: POST /step keeps nothing between requests, play over /ws"
        raise HTTPException(CONFLICT, what)

    @app.post("/mcp")
    def tools() -> dict[str, Any]:
        error = {
            "code": METHOD_NOT_FOUND,
            "message": "this environment has no MCP tools: its actions are text",
        }
        return {"jsonrpc": "2.0", "id": None, "error": error}

    @app.websocket("/ws")
    async def session(socket: WebSocket) -> None:
        await socket.accept()
        await play(socket, sessions, known, idle_seconds)

    _tell_tasks(app, suite.name, known)
    _tell_faults(app)
    return app


def _tell_tasks(app: FastAPI, name: str, tasks: Tasks) -> None:
    """openenv-core's routes by which clients find tasks, for the one split there is."""

    def checked(environment: str, split: str | None = None) -> None:
        if environment.lower() != name.lower():
            raise HTTPException(NOT_FOUND, f"unknown environment {brief(environment)}: this is {name}")
        tasks.check(split)

    app.get("/list_environments")(lambda: [name])

    @app.get("/{environment}/splits")
    def splits(environment: str) -> list[dict[str, str]]:
        checked(environment)
        kind = tasks.split if tasks.split in ("train", "test") else "validation"
        return [{"name": tasks.split, "type": kind}]

    @app.post("/{environment}/num_tasks")
    def count(environment: str, asked: Of) -> dict[str, int]:
        checked(environment, asked.split)
        return {"num_tasks": len(tasks)}

    @app.post("/{environment}/task")
    def one(environment: str, asked: OfIndex) -> dict[str, Any]:
        checked(environment, asked.split)
        return {"task": tasks.described(tasks.within("index", asked.index))}

    @app.post("/{environment}/tasks")
    def every(environment: str, asked: Of) -> dict[str, Any]:
        checked(environment, asked.split)
        return {"tasks": [tasks.described(number) for number in range(len(tasks))], "env_name": name}

    @app.post("/{environment}/task_range")
    def some(environment: str, asked: OfRange) -> dict[str, Any]:
        checked(environment, asked.split)
        numbers = range(len(tasks))[asked.start : asked.stop]
        return {"tasks": [tasks.described(number) for number in numbers]}


def _tell_faults(app: FastAPI) -> None:
    """Answer faults over HTTP as FastAPI does, as `detail`."""

    def told(status: int, detail: Any) -> Response:
        return Response(json.dumps({"detail": detail}), status, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Any, error: RequestValidationError) -> Response:
        return told(INVALID, faults(error.errors()))

    @app.exception_handler(Refusal)
    def unusable(_request: Any, error: Refusal) -> Response:
        return told(INVALID, error.errors)

    @app.exception_handler(Full)
    def full(_request: Any, error: Full) -> Response:
        return told(BUSY, str(error))

    @app.exception_handler(EtoError)
    def broken(_request: Any, error: EtoError) -> Response:
        return told(FAILED, whole(str(error)))
