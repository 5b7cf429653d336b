"""The sessions of an OpenEnv server of ours: what ends them, and what is left behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import httpx2
import psutil
import pytest
from counting import Counting, CountingEnvironment
from test_serving_openenv import Hand, client, served, until_open
from websockets.exceptions import ConnectionClosed

from eto.cli.environments import serve
from eto.errors import EnvironmentFailure, MissingRequirement


@pytest.mark.parametrize("action", ["bug", "fail", "too much"])
def test_an_environment_that_failed_is_replaced(action):
    made = []

    class Noting(Counting):
        def environment(self):
            made.append(CountingEnvironment(self))
            return made[-1]

    with served(Noting()) as (address, sessions), Hand(address) as hand:
        hand.reset(seed=0)
        assert hand.ask("step", message=action)["data"]["code"] == "EXECUTION_ERROR"
        assert "no episode" in hand.ask("step", message="up")["data"]["message"]
        assert hand.reset(seed=0)["observation"]["text"].startswith("Count to 1.")
        assert [environment.closed for environment in made] == [1, 0]
        assert hand.step("up")["reward"] == 1.0
        assert len(sessions) == 1


def test_a_server_that_is_full():
    with served(Counting(), limit=1) as (address, sessions):
        with Hand(address) as one:
            one.reset(seed=0)
            with Hand(address) as two:
                reply = two.hear()["data"]
                assert (reply["code"], reply["active_sessions"], reply["max_sessions"]) == (
                    "CAPACITY_REACHED",
                    1,
                    1,
                )
                with pytest.raises(ConnectionClosed):
                    two.hear()
            full = httpx2.post(f"{address}/reset", json={})
            assert full.status_code == 503 and "holds 1 session" in full.json()["detail"]
        until_open(sessions, 0)
        remote = client(address)
        with closing(remote.environment()) as environment:
            assert environment.reset(remote.tasks("train")[0]).startswith("Count to 1.")


def test_an_environment_that_cannot_be_made():
    class Broken(Counting):
        def environment(self):
            raise RuntimeError("no simulator: \ud800")

    with served(Broken()) as (address, sessions):
        with Hand(address) as hand:
            reply = hand.hear()["data"]
            assert (
                reply["code"] == "FACTORY_ERROR"
                and "no simulator: \N{REPLACEMENT CHARACTER}" in reply["message"]
            )
        remote = client(address)
        with (
            closing(remote.environment()) as environment,
            pytest.raises(EnvironmentFailure, match="FACTORY_ERROR"),
        ):
            environment.reset(remote.tasks("train")[0])
        assert httpx2.post(f"{address}/reset", json={}).status_code == 500
        assert len(sessions) == 0


def test_an_idle_session_is_closed():
    with served(Counting(), idle_seconds=1.0) as (address, sessions), Hand(address) as hand:
        hand.reset(seed=0)
        hand.step("sleep 1.5")  # at work is not idle
        with pytest.raises(ConnectionClosed, match=r"1001 .*idle for 1 s"):
            hand.hear()
        until_open(sessions, 0)


def test_a_session_plays_in_a_thread_of_its_own_which_ends_with_it():
    threads, gate = [], threading.Event()

    class Noting(CountingEnvironment):
        def __init__(self, suite):
            super().__init__(suite)
            threads.append(threading.current_thread())

        def step(self, action):
            threads.append(threading.current_thread())
            if action == "wait":
                assert gate.wait(30)
            return super().step(action)

        def close(self):
            threads.append(threading.current_thread())
            super().close()

    class Suite(Counting):
        def environment(self):
            return Noting(self)

    with served(Suite()) as (address, sessions):
        with Hand(address) as slow, Hand(address) as quick:
            slow.reset(seed=0)
            slow._socket.send(json.dumps({"type": "step", "data": {"message": "wait"}}))
            quick.reset(seed=0)
            assert quick.step("up")["reward"] == 1.0
            gate.set()
            assert slow.hear()["type"] == "observation"
        until_open(sessions, 0)
        mine = set(threads)
        for thread in mine:
            thread.join(10)
            assert not thread.is_alive()
        assert len(threads) == 6 and len(mine) == 2 and threading.main_thread() not in mine


def test_a_session_ends_where_its_client_goes_during_a_step():
    with served(Counting()) as (address, sessions):
        with Hand(address) as hand:
            hand.reset(seed=0)
            hand._socket.send(json.dumps({"type": "step", "data": {"message": "sleep 0.3"}}))
        until_open(sessions, 0)


def test_the_server_ends_with_sessions_open():
    with served(Counting(helper=True)) as (address, sessions):
        hand = Hand(address)
        child = int(hand.reset(seed=0)["observation"]["text"].split()[-1])
        assert psutil.pid_exists(child) and len(sessions) == 1
    assert not psutil.pid_exists(child) and len(sessions) == 0
    hand.__exit__()


@pytest.fixture
def command():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "eto", "serve-environment", "webshop", "products=40", f"--port={port}"]
    return line, f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_and_ends_with_a_session_open(command, how):
    line, address = command
    serving = subprocess.Popen([*line, "--protocol=openenv", "--split=dev", "--sessions=1"])
    try:
        until = time.monotonic() + 60
        while True:
            try:
                assert "25 tasks of split dev" in httpx2.get(f"{address}/metadata").json()["description"]
                break
            except httpx2.HTTPError:
                assert time.monotonic() < until and serving.poll() is None
                time.sleep(0.2)
        with Hand(address) as hand:
            begun = hand.reset(seed=7)
            assert begun["observation"]["text"].startswith("WebShop [SEP] Instruction:")
            with Hand(address) as other:
                assert other.hear()["data"]["code"] == "CAPACITY_REACHED"
            serving.send_signal(how)
            assert serving.wait(timeout=20) in (0, 128 + how, -how)
    finally:
        serving.kill()
        serving.wait()


def test_agentgyms_sessions_are_not_limited(command):
    line, _ = command
    refused = subprocess.run([*line, "--sessions=3"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--sessions: AgentGym's protocol does not limit sessions" in " ".join(refused.stderr.split())


@pytest.mark.parametrize("package", ["uvicorn", "websockets"])
def test_what_serving_needs_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "eto.cli.serving", raising=False)
    monkeypatch.delitem(sys.modules, "eto.environments.remote.serving_openenv")
    monkeypatch.delattr("eto.environments.remote.serving_openenv")
    with pytest.raises(MissingRequirement, match=rf"'{package}' is not installed(?s:.)*eto-agent\[serve\]"):
        serve("webshop", [], "train", "127.0.0.1", 0, 600.0, "openenv")
