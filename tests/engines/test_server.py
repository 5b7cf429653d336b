"""The engine of servers, against a real HTTP server that is good, bad, or gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from completion_server import closes, half, send, serving, stalls
from token_server import TokenServer

from eto.engines.opening import Needs, open_engine
from eto.engines.server.engine import FAULTS_IN_A_ROW, ServerEngine
from eto.errors import EngineFailure, EtoError, InputError
from eto.protocols import Completion, EngineFault, Sampling
from eto.settings import RolloutSettings, ServerSettings

PROMPT = list(range(40, 60))
GREEDY = Sampling(4)
KEY = "sk-0123456789abcdef"


@pytest.fixture
def server(tiny_path: Path) -> Iterator[TokenServer]:
    with serving(TokenServer(tiny_path)) as server:
        yield server


def engine_of(*servers: TokenServer | str, context: int = 128, **settings: Any) -> ServerEngine:
    urls = [each if isinstance(each, str) else each.url for each in servers]
    given = ServerSettings(urls=urls, **({"retries": 1, "seconds": 20.0} | settings))
    needs = Needs(context, "float32", Path("."), print)
    return open_engine(RolloutSettings(engine="server", server=given), needs)


@pytest.fixture
def opened() -> Iterator[Any]:
    """Makes engines that are closed at the end."""
    made: list[ServerEngine] = []

    def make(*servers: TokenServer | str, greeted: bool = True, **settings: Any) -> ServerEngine:
        made.append(engine_of(*servers, **settings))
        if greeted:
            asyncio.run(made[-1].greet(PROMPT))
        return made[-1]

    yield make
    for engine in made:
        engine.wait_closed()


def ask(engine: ServerEngine, count: int = 1, session: str | None = None) -> list[Any]:
    async def together() -> list[Any]:
        return await asyncio.gather(
            *(engine.generate([*PROMPT, n], GREEDY, session=session) for n in range(count))
        )

    return asyncio.run(together())


def completions(server: TokenServer) -> int:
    return sum(path == "/v1/completions" for path, _, _ in server.asked)


# -- good servers --------------------------------------------------------------------------------


def test_connections_are_kept_from_one_event_loop_to_the_next(server, opened):
    engine = opened(server)
    for _ in range(3):
        assert isinstance(ask(engine)[0], Completion)
    assert server.connections <= 2 and completions(server) == 4


def test_no_more_requests_than_allowed_are_under_way(server, opened):
    at_once, most = 0, 0
    right = server.fault

    def count(handler: Any, body: Any) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        asyncio.run(asyncio.sleep(0.02))
        at_once -= 1
        return False

    assert right is None
    engine = opened(server, requests=3)
    server.fault = count
    assert all(isinstance(each, Completion) for each in ask(engine, 12))
    assert most <= 3


def test_a_session_stays_and_others_are_spread(tiny_path, opened):
    with serving(TokenServer(tiny_path)) as one, serving(TokenServer(tiny_path)) as two:
        engine = opened(one, two)
        for session in ("a", "b", "a", "b", "a"):
            ask(engine, session=session)
        assert sorted((completions(one) - 1, completions(two) - 1)) == [2, 3]
        asyncio.run(engine.release("a"))
        assert sum(len(replica.sessions) for replica in engine.replicas) == 1


def test_the_key_is_sent_and_never_shown(server, opened, monkeypatch, caplog):
    server.key = KEY
    monkeypatch.setenv("OUR_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    assert isinstance(ask(opened(server, key_variable="OUR_KEY"))[0], Completion)
    monkeypatch.setenv("OUR_KEY", KEY[::-1])
    with pytest.raises(InputError, match="401") as refused:
        opened(server, key_variable="OUR_KEY")
    for secret in (KEY, KEY[::-1]):
        assert secret not in caplog.text and secret not in str(refused.value)


@pytest.mark.parametrize("key", ["", "one\ntwo", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_the_users_error(key, monkeypatch, opened):
    monkeypatch.setenv("OUR_KEY", key)
    with pytest.raises(InputError, match="OUR_KEY") as error:
        opened("http://127.0.0.1:1", key_variable="OUR_KEY")
    assert not key or key not in str(error.value)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "http://", "http://me:secret@h:1", "http://127.0.0.1:8000/v1", "http://h:1?a=b"]
)
def test_an_address_is_checked(url, opened):
    with pytest.raises(InputError, match=r"rollout\.server\.urls") as error:
        opened(url)
    assert "secret" not in str(error.value)


# -- new weights ---------------------------------------------------------------------------------


def test_weights_are_changed_while_the_server_is_paused(server, opened, trained_path):
    engine = opened(server)
    before = ask(engine)[0]
    asyncio.run(engine.load(trained_path))
    after = ask(engine)[0]
    assert after.version == before.version + 1 and after.ids != before.ids
    paths = [path for path, _, _ in server.asked]
    first = paths.index("/pause?mode=wait")
    calls = ["/pause?mode=wait", "/collective_rpc", "/update_weight_version", "/resume"]
    assert paths[first : first + 4] == calls


def test_weights_wait_for_the_requests_under_way(server, opened, trained_path):
    engine = opened(server)
    asked: list[str] = []

    def slow(handler: Any, body: Any) -> bool:
        time.sleep(0.3)
        asked.extend(path for path, _, _ in server.asked)
        return False

    async def load_beside_a_request() -> Any:
        under_way = asyncio.create_task(engine.generate(PROMPT, GREEDY))
        await asyncio.sleep(0.1)
        await engine.load(trained_path)
        return await under_way

    server.fault = slow
    answer = asyncio.run(load_beside_a_request())
    assert isinstance(answer, Completion) and answer.version == 0
    assert asked and "/pause?mode=wait" not in asked


def test_a_server_that_takes_no_weights_says_how(server, opened, trained_path):
    server.development = False
    with pytest.raises(InputError, match="VLLM_SERVER_DEV_MODE=1"):
        asyncio.run(opened(server).load(trained_path))


def test_a_directory_without_a_model_is_never_asked_for(server, opened, tmp_path):
    engine = opened(server)
    with pytest.raises(InputError, match="holds no model"):
        asyncio.run(engine.load(tmp_path))
    assert not any(path == "/pause?mode=wait" for path, _, _ in server.asked)


def test_without_weights_nothing_acts(server, opened, trained_path):
    """A load that failed leaves a server that may hold anything."""
    engine = opened(server)
    server.control = lambda path, body: (500, {"error": {"message": "no room"}})
    with pytest.raises(EngineFailure, match="no room"):
        asyncio.run(engine.load(trained_path))
    assert isinstance(ask(engine)[0], EngineFault)


def test_weights_that_somebody_else_changed_are_noticed(server, opened, trained_path):
    engine = opened(server)
    asyncio.run(engine.load(trained_path))
    ask(engine)
    server.version = "another run's"
    with pytest.raises(EngineFailure, match="somebody else"):
        ask(engine)


# -- bad servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe\x00", "not a completion"),
        (b"", "not a completion"),
        (b"[" * 100_000, "not a completion"),
        (b"{}", "not a completion"),
    ],
)
def test_nonsense_is_a_fault(server, opened, content, problem):
    engine = opened(server)
    server.fault = lambda handler, body: send(handler, 200, content) or True
    [fault] = ask(engine)
    assert isinstance(fault, EngineFault) and problem in fault.problem and server.url in fault.problem


@pytest.mark.parametrize(
    ("fault", "problem", "tries"),
    [
        (closes, "the connection failed", 2),
        (half, "the connection failed", 2),
        (stalls, "within 1 seconds", 1),
    ],
)
def test_a_connection_that_fails_is_tried_again_and_then_a_fault(server, opened, fault, problem, tries):
    """One that stalled is not: it would stall again."""
    engine = opened(server, seconds=1.0)
    server.fault = fault
    asked = completions(server)
    [answer] = ask(engine)
    assert isinstance(answer, EngineFault) and problem in answer.problem and answer.retryable
    assert completions(server) - asked == tries


def test_what_passes_costs_nothing(server, opened):
    engine = opened(server, retries=2)
    first = iter([closes, lambda handler, body: send(handler, 503, {}) or True])
    server.fault = lambda handler, body: next(first, lambda *_: False)(handler, body)
    assert isinstance(ask(engine)[0], Completion), "after a closed connection and a 503"
    assert next(first, None) is None


@pytest.mark.parametrize(("status", "tries"), [(500, 2), (503, 2), (429, 2), (404, 1)])
def test_what_may_pass_is_tried_again(server, opened, status, tries):
    engine = opened(server)
    server.fault = lambda handler, body: send(handler, status, {"error": {"message": "busy"}}) or True
    asked = completions(server)
    with suppress(InputError):  # of a refusal
        [fault] = ask(engine)
        assert isinstance(fault, EngineFault) and "busy" in fault.problem
    assert completions(server) - asked == tries


def test_other_ids_are_seen_at_the_start(server, opened):
    server.twist = lambda answer: answer["choices"][0].update(prompt_token_ids=[1]) or answer
    with pytest.raises(InputError, match="read 1 ids, and was sent 4"):
        opened(server)


def test_a_server_of_text_is_refused_at_the_start(server, opened):
    server.twist = lambda answer: answer["choices"][0].pop("prompt_token_ids") and answer
    with pytest.raises(InputError, match="takes no token ids"):
        opened(server)


def test_a_model_that_it_does_not_serve_is_the_users_error(server, opened):
    with pytest.raises(InputError, match=r"no model 'large'; it lists tiny(.|\n)*rollout.server.model"):
        opened(server, model="large")


def test_a_context_shorter_than_the_recipes_is_the_users_error(server, opened):
    with pytest.raises(InputError, match=r"holds 128 tokens, and the recipe's 256(.|\n)*--max-model-len 256"):
        opened(server, context=256)


def test_a_server_that_is_not_there_is_named(opened):
    with pytest.raises(EngineFailure, match=r"127\.0\.0\.1:1:(.|\n)*rollout\.server\.urls"):
        opened("http://127.0.0.1:1")


def test_one_that_is_lost_leaves_its_work_to_the_other(tiny_path, opened):
    with serving(TokenServer(tiny_path)) as one:
        with serving(TokenServer(tiny_path)) as two:
            engine = opened(one, two, retries=0)
        two.fault = closes  # a connection that is still open
        answers = ask(engine, 8)
        assert all(isinstance(each, Completion) for each in answers)
        assert [replica.down for replica in engine.replicas] == [False, True]


def test_with_no_server_left_the_run_ends(server, opened):
    engine = opened(server, retries=0)
    server.http.shutdown()
    server.http.server_close()
    server.fault = closes
    with pytest.raises(EngineFailure, match="no server answers"):
        ask(engine)


def test_a_server_without_a_good_answer_ends_the_run(server, opened):
    """One message in place of a failed episode for every task."""
    engine = opened(server)
    server.fault = lambda handler, body: send(handler, 200, {}) or True
    with pytest.raises(EngineFailure, match="in a row") as error:
        for _ in range(FAULTS_IN_A_ROW):
            ask(engine)
    assert "asked: POST" in str(error.value) and isinstance(error.value, EtoError)
