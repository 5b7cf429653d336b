"""The OpenEnv client against a server of that package, and against one that speaks as it does.

The package brings a great deal with it, so it need not be installed beside eto: where another Python has
it, ETO_OPENENV_PYTHON names that one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest
from playing import how

from eto.engines.scripted import scripted_actor
from eto.environments import load_suite
from eto.environments.remote import openenv
from eto.environments.remote.openenv_fields import find_fields
from eto.environments.toolkit.conformance import check_environment
from eto.errors import EnvironmentFailure, InputError
from eto.rollout.rollouts import rollouts

SERVER = Path(__file__).resolve().parents[2] / "helpers" / "openenv_server.py"
PYTHON = os.environ.get("ETO_OPENENV_PYTHON") or (sys.executable if find_spec("openenv") else None)
NEEDS_OPENENV = pytest.mark.skipif(PYTHON is None, reason="needs the package openenv, or ETO_OPENENV_PYTHON")


@contextmanager
def serving(kind: str, room: int):
    python = PYTHON if kind == "openenv" else sys.executable
    command = [python, str(SERVER), kind, str(room)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        assert httpx2.get(f"{address}/health", timeout=60).json() == {"status": "healthy"}
        yield address, server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.fixture(scope="module", params=["plain", pytest.param("openenv", marks=NEEDS_OPENENV)])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def address(kind):
    with serving(kind, room=8) as (address, _):
        yield address


@pytest.fixture(autouse=True)
def no_session_is_left(request):
    yield
    if "address" in request.fixturenames:
        assert_open(request.getfixturevalue("address"), 0)


def assert_open(address: str, count: int) -> None:
    until = time.monotonic() + 10
    while (there := httpx2.get(f"{address}/open").json()) != count:
        assert time.monotonic() < until, f"{there} sessions are open, not {count}"
        time.sleep(0.02)


def client(address: str, **options):
    ranges = {"train": [1, 4], "dev": [4, 4], "test": [4, 4], "observation_fields": ["text"]}
    return load_suite("openenv", address=address, **(ranges | options))


def test_an_episode_is_a_session(address):
    suite = client(address)
    one, two, _ = suite.tasks("train")
    with closing(suite.environment()) as environment:
        assert environment.reset(one) == "Count to 1."
        assert_open(address, 1)
        last = environment.step("up")
        assert (last.observation, last.reward, last.success, last.score) == ("at 1", 1.0, True, 1.0)
        assert environment.step("up").observation == "The episode has ended."
        assert environment.reset(two) == "Count to 2."
        assert environment.step("down").score is None
        assert not environment.step("up").terminated
        assert environment.step("up").success
        assert_open(address, 1)


def test_it_keeps_the_contract(address):
    suite = client(address)
    assert check_environment(suite, suite.tasks("train")) == []


def test_episodes_are_played_in_workers(address):
    suite = client(address)
    policy = scripted_actor(lambda messages: "up")
    played = rollouts(policy, suite, suite.tasks("train"), **how(slots=3, workers=2))
    assert [trajectory.success for trajectory in played] == [True] * 3


def test_a_killed_process_leaves_no_session(address):
    script = (
        "import sys, time\n"
        "from eto.environments import load_suite\n"
        "suite = load_suite('openenv', address=sys.argv[1], train=[1, 2], dev=[2, 2], test=[2, 2])\n"
        "environment = suite.environment()\n"
        "print(environment.reset(suite.tasks('train')[0]), flush=True)\n"
        "time.sleep(60)\n"
    )
    playing = subprocess.Popen(
        [sys.executable, "-c", script, address], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert playing.stdout.readline() == "Count to 1.\n"
    assert_open(address, 1)
    playing.kill()
    playing.wait()
    playing.stdout.close()


def test_a_text_that_the_action_does_not_admit_is_answered(address):
    suite = client(address)
    with closing(suite.environment()) as environment:
        environment.reset(suite.tasks("train")[1])
        environment.step("up")
        refused = environment.step("")
        assert refused.observation.startswith("Invalid action: String should have at least 1")
        assert (refused.reward, refused.terminated) == (0.0, False)
        assert environment.step("up").success


def test_a_broken_game_is_the_servers_fault_and_gets_a_new_session(address):
    suite = client(address)
    task = suite.tasks("train")[0]
    with closing(suite.environment()) as environment:
        environment.reset(task)
        with pytest.raises(EnvironmentFailure, match=r"the abacus broke \(EXECUTION_ERROR\)"):
            environment.step("fail")
        assert environment.reset(task) == "Count to 1."


def test_fields_and_parameters(address):
    suite = client(
        address, observation_fields=["text", "turns"], reset={"least": 2}, fixed={"hurry": True}, scale=0.5
    )
    with closing(suite.environment()) as environment:
        assert environment.reset(suite.tasks("train")[0]) == "Count to 2.\n[]"
        assert environment.step("ü").observation == 'at 0\n["ü"]'
        environment.step("up")
        last = environment.step("up")
        assert (last.reward, last.success, last.score) == (0.5, False, 1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"action_field": "text"}, "no field 'text'.*openenv.action_field can be message, hurry"),
        ({"observation_fields": ["page"]}, "no field 'page'.*observation_fields can be text, turns"),
        ({"fixed": {"speed": 1}}, "no field 'speed'.*openenv.fixed can be message, hurry"),
    ],
)
def test_wrong_fields_name_those_there_are(address, options, words):
    suite = client(address, **options)
    with closing(suite.environment()) as environment, pytest.raises(InputError, match=f"(?s){words}"):
        environment.reset(suite.tasks("train")[0])


def test_a_server_that_is_full(kind, monkeypatch):
    monkeypatch.setattr(openenv, "ROOM_SECONDS", 0.3)
    with serving(kind, room=1) as (address, _):
        suite = client(address)
        task = suite.tasks("train")[0]
        with closing(suite.environment()) as one, closing(suite.environment()) as two:
            one.reset(task)
            with pytest.raises(InputError, match=r"(?s)holds 1 session.*max_concurrent_envs"):
                two.reset(task)
            one.close()
            assert two.reset(task) == "Count to 1."


def test_a_server_that_is_gone(kind):
    with serving(kind, room=2) as (address, server):
        suite = client(address)
        task = suite.tasks("train")[0]
        with closing(suite.environment()) as environment:
            environment.reset(task)
            server.kill()
            server.wait()
            with pytest.raises(EnvironmentFailure, match="/ws step"):
                environment.step("up")
            with pytest.raises(EnvironmentFailure, match="ConnectionRefused"):
                environment.reset(task)
        with closing(suite.environment()) as environment, pytest.raises(EnvironmentFailure, match="/schema"):
            environment.reset(task)


@NEEDS_OPENENV
def test_the_packages_own_echo_environment(tmp_path):
    def run(*arguments: str) -> list[str]:
        return [PYTHON, "-m", *arguments]

    subprocess.run(run("openenv.cli", "init", "echoing"), cwd=tmp_path, check=True, capture_output=True)
    script = (
        "import socket, uvicorn\n"
        "from server.app import app\n"
        "listening = socket.create_server(('127.0.0.1', 0))\n"
        "print(listening.getsockname()[1], flush=True)\n"
        "uvicorn.Server(uvicorn.Config(app, log_level='error')).run(sockets=[listening])\n"
    )
    folder = tmp_path / "echoing"
    served = subprocess.Popen([PYTHON, "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        suite = client(f"http://127.0.0.1:{int(served.stdout.readline())}", observation_fields=[], rule="sum")
        with closing(suite.environment()) as environment:
            assert environment.reset(suite.tasks("train")[0]).endswith("environment ready!")
            assert environment.step("hi").observation == "hi"
            assert environment.step("hello").reward == pytest.approx(0.7)
    finally:
        served.kill()
        served.wait()
        served.stdout.close()


def schema(**kinds: str) -> dict:
    properties = {name: {"type": kind} for name, kind in kinds.items()}
    return {"properties": properties, "required": list(properties)[:1]}


FOUND = {"action_field": "", "observation_fields": None, "fixed": None}


def test_fields_are_found_where_there_is_one_text():
    several = {"action": schema(answer="string", note="string"), "observation": schema(page="string")}
    fields = find_fields(several, FOUND, "server")
    assert (fields.action, fields.observation) == ("answer", ("page",))
    maybe = {"properties": {"said": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    fields = find_fields({"action": maybe, "observation": schema(), "reset_observation": maybe}, FOUND, "s")
    assert (fields.action, fields.observation) == ("said", ("said",))


@pytest.mark.parametrize(
    ("told", "options", "words"),
    [
        (None, {}, "openenv.action_field and openenv.observation_fields"),
        ({"action": schema(move="integer")}, {}, "actions have no text.*move"),
        ({"action": {"properties": {}}}, {}, "nothing: there is none"),
        ({"action": schema(a="integer", b="string")}, {}, "'a' too.*openenv.fixed"),
        ({"action": schema(a="string"), "observation": schema(b="string", c="string")}, {}, "2 text.*b, c"),
    ],
)
def test_fields_that_are_not_to_be_found(told, options, words):
    with pytest.raises(InputError, match=f"(?s){words}"):
        find_fields(told, FOUND | options, "server")


def test_a_server_without_schema_needs_both_fields_named():
    fields = find_fields(None, FOUND | {"action_field": "a", "observation_fields": ["b"]}, "server")
    assert fields.show({"observation": {"b": "text"}}) == "text"
    with pytest.raises(EnvironmentFailure, match="no b in"):
        fields.show({"observation": {"c": "text"}})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": [0, 5], "dev": [4, 6]}, "overlaps"),
        ({"rule": "mean"}, "unknown choice"),
        ({"address": "localhost:8000"}, "is not an address"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(InputError, match=words):
        client(**({"address": "http://127.0.0.1:1"} | options))
