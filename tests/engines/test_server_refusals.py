"""Servers that are none, that refuse, or that cannot be reached: one message each, with request, remedy."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from completion_server import CompletionServer, closes, half, send, serving, stalls

from eto.engines.opening import Needs, open_engine
from eto.engines.server import connection
from eto.engines.server.engine import FAULTS_IN_A_ROW, ServerEngine
from eto.errors import EngineFailure, EtoError, InputError
from eto.protocols import EngineFault, Sampling
from eto.settings import RolloutSettings, ServerSettings

PROMPT = list(range(40, 60))
PAGE = b"<html><head><title>It works!</title></head></html>"


@pytest.fixture
def server(tiny_path: Path) -> Iterator[CompletionServer]:
    with serving(CompletionServer(tiny_path)) as server:
        yield server


@contextmanager
def engine_at(url: str, **settings: Any) -> Iterator[ServerEngine]:
    given = ServerSettings(urls=[url], **({"retries": 0, "seconds": 20.0} | settings))
    needs = Needs(128, "float32", Path("."), print)
    engine = open_engine(RolloutSettings(engine="server", server=given), needs)
    try:
        yield engine
    finally:
        engine.wait_closed()


def greeting(url: str, **settings: Any) -> EtoError:
    """With what a run ends at its start."""
    with engine_at(url, **settings) as engine, pytest.raises(EtoError) as error:
        asyncio.run(engine.greet(PROMPT))
    return error.value


def ask(engine: ServerEngine) -> Any:
    return asyncio.run(engine.generate(PROMPT, Sampling(4)))


def answers(status: int, content: Any) -> Any:
    return lambda handler, *_: send(handler, status, content) or True


def redirects(handler: Any, *_: Any) -> bool:
    handler.send_response(308)
    handler.send_header("Location", "https://models.example/")
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return True


def drips(handler: Any, *_: Any) -> bool:
    """A byte now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(15):
        handler.wfile.write(b" ")
        time.sleep(0.2)
    handler.close_connection = True
    return True


# -- at the start --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "kind", "problem", "remedy"),
    [
        (answers(200, PAGE), InputError, "begins '<html><head><title>It works!", "a model server such as"),
        (answers(200, {"models": ["m"]}), InputError, "lists no models", "a model server such as"),
        (answers(200, b'{"data": [{"id": "ti'), InputError, "lists no models", "a model server such as"),
        (answers(200, {"data": []}), InputError, "it serves no model; it lists none", "server.model"),
        (answers(401, {}), InputError, "refused with 401", "rollout.server.key_variable"),
        (answers(403, PAGE), InputError, "refused with 403", "rollout.server.key_variable"),
        (answers(404, PAGE), InputError, "404: HTTP status 404 <html>", "correct rollout.server.urls"),
        (redirects, InputError, "308 to https://models.example/", "in rollout.server.urls"),
        (answers(429, {}), EngineFailure, "HTTP status 429", "lower rollout.server.requests"),
        (answers(500, {"error": {"message": "no room"}}), EngineFailure, "no room", "server's own log"),
        (answers(502, b"<h1>Bad Gateway</h1>"), EngineFailure, "<h1>Bad Gateway", "server's own log"),
        (half, EngineFailure, "the connection failed", "server's own log"),
    ],
)
def test_what_serves_no_models_is_refused_at_the_start(server, listed, kind, problem, remedy):
    server.get = lambda handler: listed(handler, {})
    error = greeting(server.url)
    assert type(error) is kind and problem in str(error), error
    assert remedy in error.hint and (
        f"GET {server.url}/v1/models" in str(error) or "lists none" in str(error)
    )


@pytest.mark.parametrize(
    ("fault", "kind", "problem", "remedy"),
    [
        (answers(200, PAGE), EngineFailure, "nor JSON: '<html>", "takes and returns token ids"),
        (
            answers(200, {"text": "hi"}),
            InputError,
            "one choice: {'text': 'hi'}",
            "takes and returns token ids",
        ),
        (answers(503, {}), EngineFailure, "HTTP status 503", "server's own log"),
        (stalls, EngineFailure, "no answer within 1 seconds", "raise rollout.server.seconds"),
        (drips, EngineFailure, "no answer within 1 seconds", "raise rollout.server.seconds"),
        (closes, EngineFailure, "disconnected", "https:// in rollout.server.urls"),
    ],
)
def test_a_first_request_without_a_good_answer(server, fault, kind, problem, remedy):
    """Silence is not taken for a server of text."""
    server.fault = fault
    error = greeting(server.url, seconds=1.0)
    assert type(error) is kind and problem in str(error), error
    assert f"asked: POST {server.url}/v1/completions with a prompt of 4 ids" in str(error)
    assert remedy in error.hint


# -- while it plays ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "remedy"),
    [
        (400, "no, thanks", "docs/engines.md"),
        (400, "This model's maximum context length is 64 tokens", "model.max_context"),
        (401, "no, thanks", "rollout.server.key_variable"),
        (403, "no, thanks", "rollout.server.key_variable"),
        (404, "The model does not exist", "rollout.server.model"),
        (405, "Method Not Allowed", "rollout.server.urls"),
        (413, "Request Entity Too Large", "longer requests"),
        (422, "no, thanks", "docs/engines.md"),
    ],
)
def test_a_refusal_names_the_remedy(server, status, said, remedy):
    with engine_at(server.url) as engine:
        asyncio.run(engine.greet(PROMPT))
        server.fault = answers(status, {"error": {"message": said}})
        with pytest.raises(InputError) as error:
            ask(engine)
    assert f"refused with {status}: {said}" in str(error.value) and remedy in error.value.hint
    assert f"POST {server.url}/v1/completions with a prompt of 20 ids [40, 41," in str(error.value)


@pytest.mark.parametrize(
    ("fault", "problem", "remedy"),
    [
        (answers(200, PAGE), "nor JSON", "takes and returns token ids"),
        (answers(200, b'{"choices": [{"index": 0,'), "nor JSON", "takes and returns token ids"),
        (answers(429, {}), "HTTP status 429", "lower rollout.server.requests"),
        (answers(500, {"detail": "no room"}), "no room", "server's own log"),
    ],
)
def test_faults_without_end_are_one_message(server, fault, problem, remedy):
    with engine_at(server.url) as engine:
        asyncio.run(engine.greet(PROMPT))
        server.fault = fault
        with pytest.raises(EngineFailure, match=f"{FAULTS_IN_A_ROW} requests in a row") as error:
            for _ in range(FAULTS_IN_A_ROW):
                assert isinstance(ask(engine), EngineFault)
    assert problem in str(error.value) and "asked: POST" in str(error.value)
    assert remedy in error.value.hint and "same command goes on" in error.value.hint


def test_a_server_that_asks_for_a_pause_gets_it(server):
    """Ours would be half a second."""
    times: list[float] = []

    def busy(handler: Any, _body: Any) -> bool:
        times.append(time.monotonic())
        if len(times) > 1:
            return False
        handler.send_response(429)
        handler.send_header("Retry-After", "1")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    with engine_at(server.url, retries=1) as engine:
        asyncio.run(engine.greet(PROMPT))
        server.fault = busy
        assert not isinstance(ask(engine), EngineFault)
    assert times[1] - times[0] >= 1.0


def test_an_answer_without_end_is_cut(server, monkeypatch):
    monkeypatch.setattr(connection, "LONGEST_ANSWER", 2**20)
    with engine_at(server.url) as engine:
        asyncio.run(engine.greet(PROMPT))
        server.fault = answers(200, b" " * (2**20 + 1))
        assert "longer than 1 MB" in ask(engine).problem


# -- what cannot be reached ----------------------------------------------------------------------


def test_a_host_that_does_not_exist():
    error = greeting("http://no-such-host.invalid:8000")
    assert type(error) is EngineFailure and "GET http://no-such-host.invalid" in str(error)
    assert "correct rollout.server.urls" in error.hint


def test_something_that_speaks_no_http():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(1000)
                taken.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        error = greeting(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert type(error) is EngineFailure and "the connection failed" in str(error)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate for 127.0.0.1 that nobody else signed, its key)."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=eto"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@pytest.fixture
def secured(server: CompletionServer, certificate: tuple[Path, Path]) -> str:
    """The address of a server that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    return server.url.replace("http:", "https:")


def test_a_certificate_that_nobody_trusts(secured, certificate, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    error = greeting(secured)
    assert type(error) is EngineFailure and "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert "SSL_CERT_FILE" in error.hint
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with engine_at(secured) as engine:
        asyncio.run(engine.greet(PROMPT))
    error = greeting(secured.replace("127.0.0.1", "localhost"))
    assert "CERTIFICATE_VERIFY_FAILED" in str(error) and "the host it is for" in error.hint


def test_the_wrong_scheme(server, secured, tiny_path):
    error = greeting(secured.replace("https:", "http:"))
    assert type(error) is EngineFailure and "https:// in rollout.server.urls" in error.hint, error
    with serving(CompletionServer(tiny_path)) as plain:
        error = greeting(plain.url.replace("http:", "https:"))
    assert type(error) is EngineFailure and "give http:// in rollout.server.urls" in error.hint, error


def test_certificates_that_cannot_be_read(server, tmp_path, monkeypatch):
    wrong = tmp_path / "certificates.pem"
    for content in (None, "no certificate"):
        if content is not None:
            wrong.write_text(content)
        monkeypatch.setenv("SSL_CERT_FILE", str(wrong))
        with pytest.raises(InputError, match=r"certificates\.pem") as error, engine_at(server.url):
            pass
        assert error.value.where == "SSL_CERT_FILE" and error.value.hint


# -- pauses --------------------------------------------------------------------------------------


def test_a_server_that_a_killed_run_left_paused_goes_on(server):
    server.paused = True
    with engine_at(server.url) as engine:
        asyncio.run(engine.greet(PROMPT))
    assert not server.paused


def test_a_pause_that_is_not_answered_is_taken_back(server, tiny_path, monkeypatch):
    in_time = server.control

    def late(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        answer = in_time(path, body)
        time.sleep(1.0 if path.startswith("/pause") else 0.0)
        return answer

    server.control = late
    monkeypatch.setattr("eto.engines.server.replica.CONTROL_SECONDS", 0.5)
    with engine_at(server.url, seconds=0.5) as engine:
        with pytest.raises(EngineFailure, match=r"no answer within 0\.5 seconds"):
            asyncio.run(engine.load(tiny_path))
        assert not server.paused
