"""Models behind a chat server: a small server in place of one, asked over HTTP; episodes, files, errors."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from completion_server import closes, half, send, stalls
from typer.testing import CliRunner

from eto.cli import app
from eto.data.formats import read_trajectories
from eto.engines.chat import chat_actor
from eto.environments import SUITES
from eto.errors import EngineFailure, EtoError, InputError
from eto.protocols import Sampling
from eto.rollout.rollouts import rollouts
from eto.settings.engines import ChatSettings
from eto.types import Message, StopReason

from corridor import Corridor  # isort: skip

Reply = Callable[[dict[str, Any]], Any]
"""(a request) -> status and content, or a fault of `completion_server`."""


def said(text: str | None, finish: str = "stop") -> tuple[int, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {"object": "chat.completion", "choices": [choice]}


def walks(body: dict[str, Any]) -> tuple[int, Any]:
    """Goes where the last observation says."""
    seen = body["messages"][-1]["content"].lower()
    return said("move " + re.findall("north|east|south|west", seen)[-1])


@contextmanager
def chat_server(reply: Reply, key: str | None = None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(address, bodies of the requests) within the block."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            if key and self.headers.get("Authorization") != f"Bearer {key}":
                send(self, 401, {"error": {"message": f"wrong key {self.headers.get('Authorization')}"}})
            else:
                answer = reply(body) if self.path == "/v1/chat/completions" else (404, {})
                answer(self, body) if callable(answer) else send(self, *answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # of a client that went away
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def settings(url: str, **more: Any) -> ChatSettings:
    return ChatSettings(**({"url": url, "model": "big", "retries": 0} | more))


def test_its_episodes_are_text_of_a_whole_conversation():
    suite = Corridor(rooms=3)
    with chat_server(walks) as (url, asked):
        played = rollouts(
            chat_actor(settings(url, body={"seed": None, "top_k": 5})), suite, suite.tasks("dev")[:4]
        )
    assert all(each.success and each.source == "big" and each.tokenizer is None for each in played)
    assert all(turn.action_ids is None and turn.log_probs is None for each in played for turn in each.turns)
    longest = max(asked, key=lambda body: len(body["messages"]))
    assert [each["role"] for each in longest["messages"]] == ["system", *["user", "assistant"] * 2, "user"]
    assert longest["model"] == "big" and longest["top_k"] == 5 and "seed" not in longest
    assert longest["max_tokens"] == 32 and longest["temperature"] == 0


def test_half_a_character_does_not_end_the_command():
    """Such text has no UTF-8 form, so it could be neither sent nor written."""
    with chat_server(lambda body: said("move \ud83d")) as (url, asked):
        engine = chat_actor(settings(url)).engine
        talk = engine.renderer.talk([Message("user", "a \udc00 door")])
        answer = asyncio.run(engine.generate(talk.ids, Sampling(5)))
        asyncio.run(engine.close())
    assert asked[0]["messages"][0]["content"] == "a \N{REPLACEMENT CHARACTER} door"
    assert engine.renderer.text(answer.ids) == "move \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"messages": []}, "must leave messages to eto"),
        ({"stream": True, "model": "other"}, "must leave model, stream to eto"),
        ({"temperature": float("nan")}, "must hold what JSON has"),
        ({"until": date(2026, 1, 1)}, "must hold what JSON has"),
    ],
)
def test_fields_that_cannot_be_sent(body, says):
    with pytest.raises(InputError, match=says) as error:
        settings("http://127.0.0.1:1", body=body)
    assert error.value.where == "ChatSettings: body" and error.value.hint


def test_a_service_that_is_asked_too_often_is_asked_again():
    suite, busy = Corridor(rooms=2), [True]
    with chat_server(lambda body: (429, {}) if busy and busy.pop() else walks(body)) as (url, asked):
        [played] = rollouts(chat_actor(settings(url, retries=1)), suite, suite.tasks("dev")[:1])
    assert played.success and len(asked) == 3


def test_an_action_that_was_cut_and_one_that_is_missing():
    suite = Corridor(rooms=3)
    tasks = suite.tasks("dev")[:2]
    with chat_server(lambda body: said("move", "length")) as (url, _):
        [first, _] = rollouts(chat_actor(settings(url)), suite, tasks)
    assert first.turns[0].action == "move" and not first.failed
    with chat_server(lambda body: said(None)) as (url, _):
        [first, _] = rollouts(chat_actor(settings(url)), suite, tasks)
    assert first.stop is StopReason.ENGINE_FAILED and "no text" in first.detail


def test_an_action_without_a_word_is_the_agents():
    """One that was cut before its first word is not: the model was still thinking."""
    suite = Corridor(rooms=3)
    with chat_server(lambda body: said("") if len(body["messages"]) < 4 else walks(body)) as (url, _):
        [played] = rollouts(chat_actor(settings(url)), suite, suite.tasks("dev")[:1])
    assert played.turns[0].action == "" and not played.failed
    with (
        chat_server(lambda body: said("", "length")) as (url, _),
        pytest.raises(EngineFailure, match="no text within") as error,
    ):
        rollouts(chat_actor(settings(url)), suite, suite.tasks("dev"))
    assert "rollout.max_action_tokens" in error.value.hint


@pytest.mark.parametrize(
    ("answer", "kind", "problem", "remedy"),
    [
        ((400, {"error": {"message": "no seed"}}), InputError, "refused with 400: no seed", "engines.md"),
        ((401, {}), InputError, "refused with 401", "rollout.chat.key_variable"),
        ((403, b"<html>no"), InputError, "403: HTTP status 403 <html>no", "rollout.chat.key_variable"),
        ((404, {"detail": "Not Found"}), InputError, "404: Not Found", "rollout.chat.url and"),
        ((413, {}), InputError, "refused with 413", "longer requests"),
        ((429, {}), EngineFailure, "HTTP status 429", "lower rollout.chat.requests"),
        ((500, {"message": "no room"}), EngineFailure, "answered 500: no room", "server's own log"),
        ((200, b"<html>It works!"), EngineFailure, "completion: '<html>It works!", "rollout.chat.url"),
        ((200, {"text": "hi"}), EngineFailure, "not a chat completion", "rollout.chat.url"),
        ((200, b'{"choices": [{"mess'), EngineFailure, "not a chat completion", "rollout.chat.url"),
        (closes, EngineFailure, "the connection failed", "server's own log"),
        (half, EngineFailure, "the connection failed", "server's own log"),
        (stalls, EngineFailure, "within 0.2 seconds", "raise rollout.chat.seconds"),
    ],
)
def test_a_server_that_gives_no_action_is_one_message(answer, kind, problem, remedy):
    """It names the request, without what was said, and the remedy."""
    suite = Corridor()
    with chat_server(lambda body: answer if callable(answer) else tuple(answer)) as (url, _):
        actor = chat_actor(settings(url, seconds=0.2 if answer is stalls else 20.0))
        with pytest.raises(EtoError) as error:
            rollouts(actor, suite, suite.tasks("dev"))
    assert type(error.value) is kind and problem in str(error.value), error.value
    assert f"asked: POST {url}/v1/chat/completions with 2 messages of" in str(error.value)
    assert "model 'big', max_tokens 32" in str(error.value) and "You" not in str(error.value)
    assert remedy in error.value.hint


def test_what_the_server_refuses_ends_the_command_and_hides_the_key(monkeypatch):
    monkeypatch.setenv("CHAT_KEY", "secret-1")
    suite = Corridor()
    with chat_server(walks, key="other") as (url, _):
        actor = chat_actor(settings(url, key_variable="CHAT_KEY"))
        with pytest.raises(InputError, match="wrong key") as refused:
            rollouts(actor, suite, suite.tasks("dev")[:1])
    assert "secret-1" not in str(refused.value)
    with pytest.raises(InputError, match="MISSING_KEY holds no key"):
        chat_actor(settings("http://127.0.0.1:9", key_variable="MISSING_KEY"))
    with pytest.raises(InputError, match="more than the server's address"):
        chat_actor(settings("http://127.0.0.1:9/v1"))


def test_too_long_a_conversation_costs_its_episode_alone():
    suite = Corridor(rooms=3)
    too_long = (
        400,
        {"error": {"message": "maximum context length is 8 tokens", "code": "context_length_exceeded"}},
    )
    with chat_server(lambda body: too_long if len(body["messages"]) > 3 else walks(body)) as (url, _):
        played = rollouts(chat_actor(settings(url)), suite, suite.tasks("dev")[:20])
    assert {each.stop for each in played} == {StopReason.ENGINE_FAILED}
    assert "does not fit" in played[0].detail and len(played) == 20


def test_a_server_that_is_gone_ends_the_command():
    suite = Corridor()
    with chat_server(walks) as (url, _):
        pass
    with pytest.raises(EngineFailure, match="in a row"):
        rollouts(chat_actor(settings(url)), suite, suite.tasks("dev"))


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))

    def write(url: str) -> Path:
        values = {
            "name": "asked",
            "environment": {"name": "corridor", "workers": 1},
            "tasks": {"train_per_kind": 6, "dev_per_kind": 4},
            "rollout": {"engine": "chat", "chat": {"url": url, "model": "big"}},
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def test_an_expert_from_a_chat_server_is_cloned(recipe, tiny_path: Path, tmp_path: Path):
    out, verified = tmp_path / "expert.jsonl", tmp_path / "verified.jsonl"
    with chat_server(walks) as (url, _):
        path = recipe(url)
        assert "6 trajectories" in run("explore", "--recipe", path, "--out", out)
        assert "dev tasks" in run("evaluate", "--recipe", path, "--split", "dev")
    run("replay", out, "--recipe", path, "--out", verified)
    experts = read_trajectories(verified)
    assert len(experts) == 6 and all(each.reward == 1 for each in experts)
    short = ("method.sft.epochs=1", "method.sft.batch_size=2")
    run("sft", "--expert", verified, "--model", tiny_path, "--out", tmp_path / "cloned", *short)
    assert (tmp_path / "cloned" / "model.safetensors").exists()


def test_nothing_is_trained_with_it(recipe, tiny_path: Path):
    with pytest.raises(EtoError, match="takes no weights"):
        run("run", recipe("http://127.0.0.1:9"))
    with pytest.raises(EtoError, match="not a model of ours"):
        run("evaluate", "--recipe", recipe("http://127.0.0.1:9"), "--model", tiny_path)
