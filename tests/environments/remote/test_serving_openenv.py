"""Our environments served over the OpenEnv protocol: to our client, to a socket, to OpenEnv's own client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import httpx2
import pytest
import uvicorn
from corridor import Corridor
from websockets.sync.client import connect

from eto.data.texts import whole
from eto.environments import load_suite
from eto.environments.remote.serving_openenv import build_openenv_app
from eto.environments.toolkit.conformance import check_environment

PYTHON = os.environ.get("ETO_OPENENV_PYTHON") or (sys.executable if find_spec("openenv") else None)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Stepwise(Corridor):
    """A corridor that pays on the way, and takes it back after a wrong move; it says a lone surrogate."""

    def environment(self) -> Any:
        inner = super().environment()

        class Paying(type(inner)):  # type: ignore[misc]
            def step(self, action: str) -> Any:
                from dataclasses import replace

                step = super().step(action)
                reward = step.reward if step.terminated else 0.0 if self.lost else 0.2 * self.place
                return replace(step, reward=reward, observation=f"{step.observation} \ud800")

        return Paying(self)


@pytest.fixture
def app() -> Any:
    suite = Stepwise(rooms=3)
    return build_openenv_app(suite, suite.tasks("train")[:5], idle_seconds=5.0, most_sessions=2)


@pytest.fixture
def address(app: Any) -> Iterator[str]:
    with serving(app) as address:
        yield address


def asked(socket: Any, message: Any) -> dict[str, Any]:
    socket.send(message if isinstance(message, str) else json.dumps(message))
    return json.loads(socket.recv(timeout=20))


def socket_of(address: str) -> Any:
    return connect(f"ws{address[4:]}/ws", proxy=None)


def test_our_client_plays_what_the_suite_plays(address: str) -> None:
    suite, options = Stepwise(rooms=3), {"train": [0, 5], "dev": [5, 6], "test": [6, 7], "rule": "sum"}
    remote = load_suite("openenv", address=address, **options)
    there, here = remote.environment(), suite.environment()
    for task, own in zip(remote.tasks("train"), suite.tasks("train"), strict=False):
        assert there.reset(task) == here.reset(own)
        for action in [
            *suite.expert_actions(own, here)[:2],
            "say hello",
            *suite.expert_actions(own, here)[2:],
        ]:
            far, near = there.step(action), here.step(action)
            assert (far.observation, far.terminated) == (whole(near.observation), near.terminated)
            assert far.reward == pytest.approx(near.reward), "what is paid adds up"
        assert far.terminated and far.reward == pytest.approx(1.0)
    there.close()


def test_it_keeps_the_contract(address: str) -> None:
    suite = load_suite("openenv", address=address, train=[0, 5], dev=[5, 6], test=[6, 7])
    assert check_environment(suite, suite.tasks("train")[:2], monotone=False, workers=1) == []


def test_what_is_paid_falls_with_the_reward(address: str) -> None:
    suite = Stepwise(rooms=3)
    [task] = suite.tasks("train")[:1]
    right, *_ = suite.way(task)
    wrong = next(each for each in ("north", "east") if each != suite.way(task)[1])
    with socket_of(address) as socket:
        begun = asked(socket, {"type": "reset", "data": {"task": task.id}})["data"]
        assert begun["observation"]["metadata"] == {"task": task.id, "instruction": "You play a text game."}
        assert (begun["reward"], begun["done"]) == (None, False)
        paid = []
        for action in (f"move {right}", f"move {wrong}"):
            data = asked(socket, {"type": "step", "data": {"text": action}})["data"]
            paid.append(data["reward"])
        assert paid == pytest.approx([0.2, -0.2])
        while not data["done"]:
            data = asked(socket, {"type": "step", "data": {"text": "wait"}})["data"]
        state = asked(socket, {"type": "state"})["data"]
        assert state == {"episode_id": task.id, "step_count": suite.max_turns(task)}, "the cap ends it"
        answer = asked(socket, {"type": "step", "data": {"text": "wait"}})
        assert answer["data"]["code"] == "EXECUTION_ERROR" and "has ended" in answer["data"]["message"]


def test_tasks_by_seed_and_in_turn(address: str) -> None:
    def task_of(socket: Any, **data: Any) -> str:
        return asked(socket, {"type": "reset", "data": data})["data"]["observation"]["metadata"]["task"]

    names = [task.id for task in Corridor().tasks("train")[:5]]
    with socket_of(address) as socket:
        assert [task_of(socket, seed=number) for number in range(5)] == names
        assert [task_of(socket) for _ in range(6)] == [*names, names[0]]


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        ("{", "INVALID_JSON", "Invalid JSON"),
        ("[1]", "INVALID_JSON", "no object"),
        ({"type": "dance"}, "UNKNOWN_TYPE", "dance"),
        ({"type": "step", "data": {"text": "x"}}, "EXECUTION_ERROR", "before the first reset"),
        ({"type": "reset", "data": {"seed": 5}}, "EXECUTION_ERROR", "the seeds 0 to 4"),
        ({"type": "reset", "data": {"seed": "one"}}, "VALIDATION_ERROR", "seed"),
        ({"type": "reset", "data": {"task": "nowhere"}}, "EXECUTION_ERROR", "one is 'corridor/train/0'"),
        ({"type": "reset", "data": 3}, "VALIDATION_ERROR", "no object"),
    ],
)
def test_what_cannot_be_answered_is_said_and_the_session_lives(
    address: str, message: Any, code: str, says: str
) -> None:
    with socket_of(address) as socket:
        answer = asked(socket, message)
        assert answer["type"] == "error" and answer["data"]["code"] == code
        assert says in json.dumps(answer["data"])
        assert asked(socket, {"type": "reset"})["type"] == "observation"
        wrong = asked(socket, {"type": "step", "data": {"txt": "x"}})["data"]
        assert wrong["code"] == "VALIDATION_ERROR" and {each["loc"][0] for each in wrong["errors"]} == {
            "text",
            "txt",
        }


def test_room_is_bounded_and_freed(address: str, app: Any) -> None:
    with socket_of(address) as first, socket_of(address) as second:
        assert asked(first, {"type": "reset"})["type"] == asked(second, {"type": "reset"})["type"]
        with socket_of(address) as third:
            full = json.loads(third.recv(timeout=20))["data"]
            assert full["code"] == "CAPACITY_REACHED" and full["max_sessions"] == 2
    until = time.monotonic() + 20
    while app.state.sessions and time.monotonic() < until:
        time.sleep(0.05)
    with socket_of(address) as socket:
        assert asked(socket, {"type": "reset"})["type"] == "observation"
        socket.send(json.dumps({"type": "close"}))


def test_a_silent_session_is_closed() -> None:
    suite = Corridor()
    app = build_openenv_app(suite, suite.tasks("train"), idle_seconds=0.3)
    with serving(app) as address, socket_of(address) as socket:
        assert asked(socket, {"type": "reset"})["type"] == "observation"
        with pytest.raises(Exception, match=r"1000|closed|received"):
            socket.recv(timeout=20)
        assert not app.state.sessions


def test_what_it_says_of_itself(address: str) -> None:
    assert httpx2.get(f"{address}/health").json() == {"status": "healthy"}
    assert httpx2.get(f"{address}/metadata").json()["name"] == "corridor"
    schema = httpx2.get(f"{address}/schema").json()
    assert set(schema) == {"action", "observation", "state"} and schema["action"]["required"] == ["text"]


PLAY = """
import sys
from openenv.core import GenericEnvClient
with GenericEnvClient(base_url=sys.argv[1]).sync() as game:
    begun = game.reset(seed=1)
    print(begun.observation["metadata"]["task"], begun.done)
    total = 0.0
    for action in sys.argv[2:]:
        answered = game.step({"text": action})
        total += answered.reward
    print(round(total, 6), answered.done, answered.observation["metadata"]["success"])
    print(game.state()["step_count"])
"""


@pytest.mark.skipif(PYTHON is None, reason="needs the package openenv, or ETO_OPENENV_PYTHON")
def test_openenvs_own_client_plays(address: str) -> None:
    suite = Corridor(rooms=3)
    task = suite.tasks("train")[1]
    actions = suite.expert_actions(task, suite.environment())
    done = subprocess.run(
        [PYTHON, "-c", PLAY, address, *actions], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{task.id} False", "1.0 True True", "3"]
