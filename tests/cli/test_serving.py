"""How `eto serve-environment` and `eto view` listen, and how they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import httpx2
import pytest

from eto.cli.environments import serve
from eto.cli.serving import check_free, listening
from eto.errors import InputError

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
COMMAND = "import eto.cli.serving as s; s.GRACE_SECONDS = 1.0; from eto.cli.entry import main; main()"


@pytest.fixture
def served(request):
    line = [sys.executable, "-c", COMMAND, "serve-environment", "counting:Counting", "--port=0"]
    path = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [*line, f"--protocol={request.param}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    with server:
        yield server, server.stdout.readline()
        server.kill()


@pytest.mark.parametrize("served", ["openenv"], indirect=True)
def test_a_free_port_is_told(served):
    server, said = served
    what, _, address = said.removesuffix("   Ctrl-C ends it\n").partition(": ")
    assert what == "counting, 3 tasks of train, over openenv"
    assert httpx2.get(f"{address}/health").status_code == 200
    server.send_signal(signal.SIGINT)
    assert (server.wait(20), server.stderr.read()) == (0, "")


@pytest.mark.parametrize("served", ["agentgym"], indirect=True)
def test_a_server_ends_though_a_simulator_hangs(served):
    server, said = served
    address = said.split()[-4]

    def hang():
        with suppress(httpx2.HTTPError):
            httpx2.post(f"{address}/step", json=session | {"action": "sleep 600"}, timeout=60)

    session = httpx2.post(f"{address}/create").json()
    httpx2.post(f"{address}/reset", json=session)
    playing = threading.Thread(target=hang)
    playing.start()
    time.sleep(0.5)
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 128 + signal.SIGTERM
    assert server.stderr.read() == "still at work after 1 s: ended all the same\n"
    playing.join()


def test_a_split_without_tasks_is_refused():
    options = ["address=http://127.0.0.1:1", "train=[0, 3]", "dev=[3, 3]", "test=[3, 3]"]
    for protocol in ("agentgym", "openenv"):
        with pytest.raises(InputError, match=r"split dev: there are no tasks(?s:.)*--split"):
            serve("agentgym", options, "dev", "127.0.0.1", 0, 600.0, protocol)


def test_a_port_is_taken_at_once():
    [first] = listening("127.0.0.1", 0)
    with closing(first):
        port = first.getsockname()[1]
        with pytest.raises(InputError, match="cannot listen: Address already in use"):
            check_free("127.0.0.1", port)
    check_free("127.0.0.1", port)


def test_all_addresses_of_a_name_have_one_port(monkeypatch):
    def found(host, port, **_):
        places = ("127.0.0.1", "127.0.0.2")
        there = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in places]
        lacking = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0))
        return [*there, lacking]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    sockets = listening("several", 0)
    named = [each.getsockname() for each in sockets]
    for each in sockets:
        each.close()
    assert [host for host, _ in named] == ["127.0.0.1", "127.0.0.2"]
    assert len({port for _, port in named}) == 1


def test_what_is_no_host_is_told():
    for host in ("nowhere.invalid", "a" * 300, "8.8.8.8"):
        with pytest.raises(InputError, match="cannot listen"):
            listening(host, 0)
