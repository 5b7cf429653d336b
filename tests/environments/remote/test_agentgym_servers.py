"""AgentGym's own servers, each in the words it uses: what it is asked, what it answers.

Their packages need simulators and data that no test machine has; here a counting game stands behind
their requests and replies. Task n is solved by n times "up".
"""

from contextlib import closing

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, create_model
from test_agentgym import client, serving

from eto.errors import InputError


class Games:
    """Sessions of the counting game: [task, count], numbered from 7."""

    def __init__(self) -> None:
        self.open: dict[int, list[int]] = {}
        self.begun: list[int] = []

    def create(self) -> int:
        self.open[7 + len(self.open)] = [0, 0]
        return 6 + len(self.open)

    def reset(self, session: int, task: int) -> str:
        if session not in self.open:
            raise HTTPException(500)
        self.open[session] = [task, 0]
        self.begun.append(task)
        return f"Count to {task}."

    def step(self, session: int, action: str) -> tuple[str, float, bool]:
        game = self.open[session]
        game[1] += action == "up"
        done = game[1] >= game[0]
        return f"at {game[1]}", float(done), done


def fields(**types):
    return create_model("Body", **{name: (kind, ...) for name, kind in types.items()})


def by_id(games: Games, number: str, prefix: str = "", **further) -> FastAPI:
    """TextCraft, BabyAI and ScienceWorld (`data_idx`), ALFWorld and the maze (`game`), Wordle (`seed`)."""
    app = FastAPI()
    Reset = fields(id=int, **{number: int}, **further)
    Act = fields(id=int, action=str)

    @app.post(f"{prefix}/create")
    def create() -> dict:
        return {"id": games.create()}

    @app.post(f"{prefix}/reset")
    def reset(body: Reset) -> dict:
        if further and body.world_type not in ("Text", "Embody", "Hybrid"):
            return {"error": "unknown world_type"}
        if body.id not in games.open:
            return {"error": f"no session {body.id}"}
        return {"id": body.id, "observation": games.reset(body.id, getattr(body, number))}

    @app.post(f"{prefix}/step")
    def step(body: Act) -> dict:
        observation, reward, done = games.step(body.id, body.action)
        return {"observation": observation, "reward": reward, "done": done}

    return app


def by_number(games: Games, number: str, tool: bool = False) -> FastAPI:
    """WebShop (`session_id`) and SQLGym (`item_id`) answer with lists, the tools (`id`) with a text."""
    app = FastAPI()
    Reset = fields(env_idx=int, **{number: int})
    Act = fields(env_idx=int, action=str)
    Close = fields(env_idx=int)

    class Create(BaseModel):
        id: int

    def create_tool(body: Create) -> int:
        return games.create()

    app.post("/create")(create_tool if tool else games.create)

    @app.post("/reset")
    def reset(body: Reset) -> object:
        text = games.reset(body.env_idx, getattr(body, number))
        return text if tool else [text, None]

    @app.post("/step")
    def step(body: Act) -> dict:
        text, reward, done = games.step(body.env_idx, body.action)
        if tool:
            return {"observation": text, "reward": reward, "done": done}
        return {"state": text, "reward": reward, "done": done, "info": None}

    @app.post("/close")
    def close(body: Close) -> dict:
        return {"closed": games.open.pop(body.env_idx, None) is not None}

    return app


def webarena(games: Games) -> FastAPI:
    """A Flask application there, which does not describe itself."""
    app = FastAPI(openapi_url=None)

    @app.post("/create")
    def create() -> dict:
        return {"env_idx": games.create()}

    @app.post("/reset")
    def reset(body: dict) -> dict:
        assert body["seed"] == 0
        return {"observation": games.reset(body["env_idx"], body["idx"])}

    @app.post("/step")
    def step(body: dict) -> dict:
        text, reward, done = games.step(body["env_idx"], body["action"])
        return {"observation": text, "reward": reward, "terminated": done, "truncated": False, "info": {}}

    @app.post("/close")
    def close(body: dict) -> PlainTextResponse:
        del games.open[body["env_idx"]]
        return PlainTextResponse("closed")

    return app


SERVERS = {
    "textcraft, babyai, sciworld": lambda games: by_id(games, "data_idx"),
    "alfworld": lambda games: by_id(games, "game", world_type=str),
    "maze": lambda games: by_id(games, "game", prefix="/maze"),
    "wordle": lambda games: by_id(games, "seed", prefix="/wordle"),
    "webshop": lambda games: by_number(games, "session_id"),
    "sqlgym": lambda games: by_number(games, "item_id"),
    "tools": lambda games: by_number(games, "id", tool=True),
    "webarena": webarena,
}


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_is_asked_in_its_own_words(name):
    games = Games()
    path = f"/{name}" if name in ("maze", "wordle") else ""
    with serving(SERVERS[name](games)) as address:
        suite = client(address + path, train=[1, 3])
        with closing(suite.environment()) as environment:
            for task in suite.tasks("train"):
                number = task.payload["data_idx"]
                assert environment.reset(task) == f"Count to {number}."
                played = [environment.step("up") for _ in range(number)]
                assert [step.observation for step in played] == [f"at {n + 1}" for n in range(number)]
                assert (played[-1].reward, played[-1].success) == (1.0, True)
            assert list(games.open) == [7]
        assert games.begun == [1, 2]
        assert bool(games.open) is (name not in ("webshop", "sqlgym", "tools", "webarena"))


def test_a_servers_field_can_be_named_and_a_wrong_one_is_told():
    games = Games()
    with serving(by_id(games, "level")) as address:
        for options in ({}, {"task_field": "stage"}):
            suite = client(address, train=[1, 3], **options)
            with closing(suite.environment()) as environment, pytest.raises(InputError, match="of level"):
                environment.reset(suite.tasks("train")[0])
        suite = client(address, train=[1, 3], task_field="level")
        with closing(suite.environment()) as environment:
            assert environment.reset(suite.tasks("train")[1]) == "Count to 2."
