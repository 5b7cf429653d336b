"""`python openenv_server.py openenv|plain ROOM`: a counting game over the OpenEnv protocol.

`openenv` is made by that package, which may be installed for another Python than the tests'; `plain` sends
and takes the same messages without it. Prints its port; `GET /open` tells how many games are open.

Seed n is solved by n times "up". "fail" breaks the game; actions have at least one letter.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field, ValidationError


class Game:
    open = 0

    def __init__(self) -> None:
        Game.open += 1
        self.goal = self.count = 0

    def begin(self, seed: int | None, least: int) -> str:
        self.goal, self.count = max(seed or 0, least), 0
        return f"Count to {self.goal}."

    def act(self, message: str) -> tuple[str, float | None, bool]:
        if message == "fail":
            raise ValueError("the abacus broke")
        self.count += message == "up"
        done = self.count == self.goal
        return f"at {self.count}", 1.0 if done else None, done

    def end(self) -> None:
        Game.open -= 1


def openenv_app(room: int) -> FastAPI:
    from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

    class Count(Action):
        message: str = Field(min_length=1)
        hurry: bool = False

    class Told(Observation):
        text: str = ""
        turns: list[str] = Field(default_factory=list)

    class Counting(Environment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self.game, self.turns = Game(), []

        def reset(self, seed=None, episode_id=None, least=0, **others: Any):
            self.turns = []
            return Told(text=self.game.begin(seed, least))

        def step(self, action, timeout_s=None, **others: Any):
            text, reward, done = self.game.act(action.message)
            self.turns.append(action.message)
            return Told(text=text, turns=self.turns, reward=reward, done=done)

        @property
        def state(self):
            return State(step_count=len(self.turns))

        def close(self) -> None:
            self.game.end()

    return create_fastapi_app(Counting, Count, Told, max_concurrent_envs=room)


class PlainAction(BaseModel, extra="forbid"):
    metadata: dict[str, Any] = {}
    message: str = Field(min_length=1)
    hurry: bool = False


class PlainObservation(BaseModel):
    done: bool = False
    reward: bool | int | float | None = None
    metadata: dict[str, Any] = {}
    text: str = ""
    turns: list[str] = []


def plain_app(room: int) -> FastAPI:
    app = FastAPI()
    app.get("/health")(lambda: {"status": "healthy"})

    @app.get("/schema")
    def schema() -> dict:
        return {
            "action": PlainAction.model_json_schema(),
            "observation": PlainObservation.model_json_schema(),
            "state": {"type": "object"},
        }

    def error(code: str, message: str, **more: Any) -> dict:
        return {"type": "error", "data": {"message": message, "code": code, **more}}

    def observation(text: str, turns: list[str], reward: float | None = None, done: bool = False) -> dict:
        shown = {"metadata": {}, "text": text, "turns": turns}
        return {"type": "observation", "data": {"observation": shown, "reward": reward, "done": done}}

    def answer(game: Game, turns: list[str], asked: dict) -> dict:
        if asked["type"] == "reset":
            turns.clear()
            return observation(game.begin(asked["data"].get("seed"), asked["data"].get("least", 0)), turns)
        action = PlainAction(**asked["data"])
        text, reward, done = game.act(action.message)
        turns.append(action.message)
        return observation(text, turns, reward, done)

    @app.websocket("/ws")
    async def session(socket: WebSocket) -> None:
        await socket.accept()
        if Game.open >= room:
            await socket.send_json(error("CAPACITY_REACHED", "full", active_sessions=room, max_sessions=room))
            await socket.close()
            return
        game, turns = Game(), []
        try:
            while (asked := await socket.receive_json())["type"] != "close":
                try:
                    reply = answer(game, turns, asked)
                except ValidationError as wrong:
                    reply = error("VALIDATION_ERROR", "Invalid message", errors=wrong.errors())
                except ValueError as broken:
                    reply = error("EXECUTION_ERROR", str(broken))
                await socket.send_json(reply)
            await socket.close()
        except WebSocketDisconnect:
            pass
        finally:
            game.end()

    return app


if __name__ == "__main__":
    make = {"openenv": openenv_app, "plain": plain_app}[sys.argv[1]]
    app = make(int(sys.argv[2]))
    app.get("/open")(lambda: Game.open)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
