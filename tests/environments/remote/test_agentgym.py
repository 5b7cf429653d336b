"""Our environments served over the AgentGym protocol, and played through the client, over a real socket."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import httpx2
import pytest
import uvicorn
from counting import Counting
from fastapi import FastAPI
from playing import how

from eto.engines.scripted import scripted_actor
from eto.environments import load_suite
from eto.environments.remote.serving_agentgym import build_app
from eto.environments.toolkit.conformance import check_environment
from eto.errors import EnvironmentFailure, InputError
from eto.rollout.rollouts import rollouts


@contextmanager
def serving(app: FastAPI, port: int = 0):
    """The address of a server in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def client(address: str, **options):
    ranges = {"train": [0, 3], "dev": [3, 3], "test": [3, 3]}
    return load_suite("agentgym", address=address, **(ranges | options))


def test_the_client_conforms_and_leaves_no_session():
    suite = Counting()
    app = build_app(suite, suite.tasks("train"))
    with serving(app) as address:
        remote = client(address)
        assert check_environment(remote, remote.tasks("train")) == []
        assert len(app.state.sessions) == 0
        with closing(remote.environment()) as environment:
            environment.reset(remote.tasks("train")[0])
            assert len(app.state.sessions) == 1
            last = environment.step("up")
            assert (last.reward, last.terminated, last.success) == (1.0, True, True)
            assert environment.step("up").observation == "The episode has ended."
        assert len(app.state.sessions) == 0


def test_episodes_are_played_in_workers():
    suite = Counting()
    app = build_app(suite, suite.tasks("train"))
    with serving(app) as address:
        remote = client(address)
        policy = scripted_actor(lambda messages: "up")
        played = rollouts(policy, remote, remote.tasks("train"), **how(slots=3, workers=2))
        assert [trajectory.success for trajectory in played] == [True] * 3
        assert len(app.state.sessions) == 0


def test_sessions_of_clients_that_died_are_closed():
    suite = Counting()
    app = build_app(suite, suite.tasks("train"), idle_seconds=0.2)
    with serving(app) as address:
        httpx2.post(f"{address}/create")
        assert len(app.state.sessions) == 1
        until = time.monotonic() + 10
        while len(app.state.sessions) and time.monotonic() < until:
            time.sleep(0.05)
        assert len(app.state.sessions) == 0


def test_protocol_by_hand():
    suite = Counting()
    with serving(build_app(suite, suite.tasks("train"))) as address, httpx2.Client(base_url=address) as http:
        session = http.post("/create").json()["id"]
        first = http.post("/reset", json={"id": session, "data_idx": 1}).json()
        assert (first["done"], first["task"]) == (False, "counting/2")
        assert http.get("/observation", params={"id": session}).json() == first["observation"]
        step = http.post("/step", json={"id": session, "action": "up"}).json()
        assert {"observation", "reward", "done", "success", "score"} <= set(step)
        assert http.post("/reset", json={"id": session, "data_idx": 9}).status_code == 404
        assert "no session 99" in http.post("/step", json={"id": 99, "action": "up"}).json()["error"]
        assert http.post("/step", json={"id": session}).status_code == 422
        assert http.post("/close", json={"id": session}).json() == {"closed": True}


def other_server(step: dict) -> FastAPI:
    """A server that answers every step with `step`, in the form of AgentGym's own servers."""
    app = FastAPI()
    app.post("/create")(lambda: {"id": 0})

    @app.post("/reset")
    def reset(body: dict) -> dict:
        return {"task_description": "Boil water.", "observation": "A kitchen.", "reward": 0, "done": False}

    @app.post("/step")
    def answer(body: dict) -> dict:
        return step

    return app


def test_scores_are_scaled_and_faults_are_the_servers():
    with serving(other_server({"observation": "ok", "reward": 3, "score": 40, "done": False})) as address:
        suite = client(address, score="score", scale=0.01, rule="best")
        with closing(suite.environment()) as environment:
            assert environment.reset(suite.tasks("train")[0]) == "Boil water.\nA kitchen."
            step = environment.step("look")
            assert (step.reward, step.score, step.success) == (pytest.approx(0.4), 40.0, False)
    for answer in ({"error": "JVM died"}, {"observation": "ok"}, {"reward": 1}):
        with serving(other_server(answer)) as address:
            suite = client(address)
            with closing(suite.environment()) as environment:
                environment.reset(suite.tasks("train")[0])
                with pytest.raises(EnvironmentFailure):
                    environment.step("look")


def test_a_limit_of_the_servers_is_no_end_of_the_task():
    answer = {"observation": "late", "reward": 1, "done": True, "terminated": False, "truncated": True}
    with serving(other_server(answer)) as address:
        suite = client(address)
        with closing(suite.environment()) as environment:
            environment.reset(suite.tasks("train")[0])
            step = environment.step("wait")
            assert (step.terminated, step.truncated, step.success) == (False, True, False)
            assert environment.step("wait").observation == "The episode has ended."


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        suite = client(f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(EnvironmentFailure, match="create"):
        suite.environment().reset(suite.tasks("train")[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": [0, 5], "dev": [4, 6]}, "overlaps"),
        ({"train": [5, 0]}, "is not a range"),
        ({"rule": "mean"}, "unknown choice"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(InputError, match=words):
        client("http://127.0.0.1:1", **options)


def test_the_address_is_needed_and_checked():
    with pytest.raises(InputError, match="'address' is needed"):
        load_suite("agentgym")
    with pytest.raises(InputError, match="is not an address"):
        client("localhost")


def test_the_command_serves_and_ends():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "eto", "serve-environment", "webshop", "products=40", f"--port={port}"]
    served = subprocess.Popen(command)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                assert httpx2.get(f"http://127.0.0.1:{port}/").json() == "This is environment webshop."
                break
            except httpx2.HTTPError:
                assert time.monotonic() < until
                time.sleep(0.2)
        suite = client(f"http://127.0.0.1:{port}")
        with closing(suite.environment()) as environment:
            assert environment.reset(suite.tasks("train")[0]).startswith("WebShop [SEP] Instruction:")
    finally:
        served.terminate()
        assert served.wait(timeout=20) in (0, -15)
