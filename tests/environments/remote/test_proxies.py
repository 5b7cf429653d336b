"""Proxy variables: without effect on servers of this machine, told in words where they cannot be used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eto.environments.remote.agentgym import AgentGym
from eto.environments.remote.openenv import OpenEnv
from eto.environments.remote.proxies import client, on_this_machine
from eto.errors import EnvironmentFailure, InputError, MissingRequirement

RANGES = {"train": [0, 2], "dev": [2, 3], "test": [3, 4]}
BAD = (
    "http://127.0.0.1:9",
    "socks5://127.0.0.1:9",
    "http://[bad",
    "foo://x",
    "http://\x01",
    "http://x:99999",
)
NAMES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "WS_PROXY", "ws_proxy")


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"id": 1, "observation": "hello", "reward": 0.0, "done": false}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port():
    with ThreadingHTTPServer(("", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("proxy", BAD)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.7", "0.0.0.0", socket.gethostname()])
def test_a_server_here_is_asked_without_a_proxy(host, proxy, port, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, proxy)
    environment = AgentGym(f"http://{host}:{port}", **RANGES).environment()
    task = AgentGym(f"http://{host}:{port}", **RANGES).tasks("train")[0]
    assert environment.reset(task) == "hello"
    environment.close()


@pytest.mark.parametrize("proxy", BAD)
def test_a_proxy_before_another_machine_ends_in_words(proxy, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, proxy)
    told = (InputError, MissingRequirement, EnvironmentFailure)
    for suite in (AgentGym, OpenEnv):
        made = suite("http://192.0.2.1:8000", **RANGES, seconds=0.5)
        with pytest.raises(told):
            made.environment().reset(made.tasks("train")[0])


def test_socks_without_its_package_names_the_variable(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(MissingRequirement, match=r"ALL_PROXY.*package that is not installed"):
        client("http://192.0.2.1:8000", 1.0)


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("http://LOCALHOST:1", True),
        ("https://a.localhost", True),
        ("http://[::1]:1", socket.has_ipv6),
        ("http://user:word@127.0.0.1/x", True),
        ("http://192.0.2.1:1", False),
        ("http://localhost.example.invalid", False),
        ("http://127.0.0.1.example.invalid", False),
    ],
)
def test_which_hosts_are_this_machine(address, own):
    assert on_this_machine(address) is own


@pytest.mark.parametrize("suite", [AgentGym, OpenEnv])
@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8000", "http://", "http://[x", "http://x:port", "http://x:0", "ftp://x", "http:///a"],
)
def test_what_is_no_address(address, suite):
    with pytest.raises(InputError, match="is not an address"):
        suite(address, **RANGES)


def test_a_websocket_to_this_machine_takes_no_proxy(tmp_path):
    """The OpenEnv session of a real server, in a process whose variables name a proxy that is none."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code = (
            "from eto.environments.remote.openenv import OpenEnv, OpenEnvEnvironment\n"
            f"made = OpenEnv({address!r}, [0, 1], [1, 2], [2, 3], seconds=1.0)\n"
            "made.environment()._connect(1.0)\n"
        )
        variables = os.environ | dict.fromkeys(NAMES, "socks5://127.0.0.1:9")
        asked = subprocess.Popen(
            [sys.executable, "-c", code], env=variables, stderr=subprocess.PIPE, text=True
        )
        silent.settimeout(60)
        connection, _ = silent.accept()
        assert connection.recv(100).startswith(b"GET /ws HTTP/1.1")
        connection.close()
        asked.communicate(timeout=60)


@pytest.mark.parametrize(
    ("proxy", "says"), [("socks5://127.0.0.1:9", "package"), ("foo://x", "no usable proxy")]
)
def test_a_model_of_the_hub_behind_a_proxy_that_is_none(proxy, says, monkeypatch):
    from huggingface_hub.utils import close_session

    from eto.cli.compose import read_recipe
    from eto.experiment.compose import policy_of

    close_session()  # one of an earlier test in this process would not ask for its proxy again
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises((InputError, MissingRequirement), match=rf"HTTPS_PROXY.*{says}"):
        policy_of(read_recipe(None, []), "someone/no-such-model")
